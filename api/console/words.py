"""Turns error texts of the API into texts for pages. A person who reads a page does not call the API.

So the texts here lose names of fields and paths of the API, and get a sentence about the page instead.
"""

# by text of the API: what a page shows instead
INSTEAD = {
    "startTime, endTime and duration do not agree": "Start, end and hours do not agree",
    "start again at auth-url": "connect Xero again",
    "try again at auth-url": "connect Xero again",
    " (xeroProjectId)": "",
    " (xeroTaskId)": "",
}
NO_ACCESS = "a person without access"  # shown instead of the name of a person who cannot be chosen any more
HINTS = ("; GET ", "; PATCH ", "; /docs ")  # the rest of a text from one of these on is advice for clients of the API


def for_field(text: str) -> str:
    """The error beside a field of a page, made from the API's error about its value.

    If the error contains what to type, only this is left. Else what concerns JSON is removed: `send it as text`, `or null`.
    """
    _, found, advice = text.partition(": type ")
    if found:
        return f"Type {advice}"
    before, found, _ = text.partition(": send it as text")
    if found:
        text = f"{before}."
    return text.replace(", or null", "")


def for_page(text: str, *, choose: str = "") -> str:
    """The text without advice that only a client of the API can follow.

    `choose` is a sentence that replaces the advice to request a list of rows, such as `GET /api/tasks lists them.`
    """
    for words, replacement in INSTEAD.items():
        text = text.replace(words, replacement)
    for hint in HINTS:
        before, found, advice = text.partition(hint)
        if found:
            text = f"{before}."
            if choose and advice.endswith("lists them."):
                text += f" {choose}"
    return text
