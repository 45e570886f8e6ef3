"""Numbers of things in words."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 bill`, `2 bills`, `1,000 bills`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
