"""The three characters that Slack escapes in the texts that it sends: `&`, `<` and `>`."""


def unescape(text: str) -> str:
    """The text as the person typed it. Slack escapes three characters and no others, each once: "R&amp;amp;D" was typed as
    "R&amp;D"."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
