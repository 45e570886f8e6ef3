"""What a command says instead of a traceback."""


class CommandError(Exception):
    """A failure that was foreseen. Its text is one clear sentence or two: what is wrong, and what to do next."""
