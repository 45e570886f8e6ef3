"""What a command says instead of a traceback."""


class CommandError(Exception):
    """A failure that was foreseen. Its text is one clear sentence or two: what is wrong, and what to do next. The command exits
    with `code`."""

    def __init__(self, text: str, *, code: int = 1) -> None:
        super().__init__(text)
        self.code = code
