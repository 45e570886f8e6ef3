"""What one problem is, why it matters, and what to do about it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, what follows from it, and what to do."""

    what: str
    why: str
    do: str
