"""What the API says, in the words of pages: a person calls no paths."""

INSTEAD = {
    "startTime, endTime and duration do not agree": "Start, end and hours do not agree",
    "start again at auth-url": "connect Xero again",
    "try again at auth-url": "connect Xero again",
    " (xeroProjectId)": "",
    " (xeroTaskId)": "",
}
NO_ACCESS = "a person without access"  # instead of a name that cannot be chosen any more
HINTS = ("; GET ", "; PATCH ", "; /docs ")  # each begins what only a client of the API can do


def for_field(text: str) -> str:
    """What is wrong with a value that was typed: what to type instead, if a field of a page says that; else what the API says,
    without how JSON has it."""
    _, typed, instead = text.partition(": type ")
    if typed:
        return f"Type {instead}"
    said, as_json, _ = text.partition(": send it as text")
    return (f"{said}." if as_json else text).replace(", or null", "")


def for_page(text: str, *, choose: str = "") -> str:
    """The text without what only a client of the API can do. `choose`: the sentence instead of a path that lists the rows."""
    for words, others in INSTEAD.items():
        text = text.replace(words, others)
    for hint in HINTS:
        said, found, rest = text.partition(hint)
        if found:
            text = f"{said}.{f' {choose}' if choose and rest.endswith('lists them.') else ''}"
    return text
