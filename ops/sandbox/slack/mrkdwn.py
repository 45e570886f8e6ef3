"""Texts in Slack's mrkdwn, as parts of one style each: what Stint writes, which is bold, code, links and mentions."""

from dataclasses import dataclass, replace

from schemas.slack.escaping import unescape


@dataclass(frozen=True)
class Span:
    """A part of a text with one style."""

    text: str
    bold: bool = False
    code: bool = False
    link: bool = False

    @property
    def style(self) -> tuple[bool, bool, bool]:
        return self.bold, self.code, self.link

    def with_text(self, text: str) -> "Span":
        return replace(self, text=text)

    def joined(self, text: str) -> "Span":
        return replace(self, text=self.text + text)


def spans(text: str, names: dict[str, str]) -> list[Span]:
    """The parts of the text. `names` are those of the ids in mentions."""
    found: list[Span] = []
    bold = code = False
    plain = ""

    def flush() -> None:
        nonlocal plain
        if plain:
            found.append(Span(unescape(plain), bold=bold, code=code))
        plain = ""

    at = 0
    while at < len(text):
        char = text[at]
        if char == "<" and not code and (end := text.find(">", at)) > 0:
            flush()
            found.append(_reference(text[at + 1 : end], names, bold=bold))
            at = end + 1
            continue
        if char == "`":
            flush()
            code = not code
        elif char == "*" and not code:
            flush()
            bold = not bold
        else:
            plain += char
        at += 1
    flush()
    return found


def _reference(inner: str, names: dict[str, str], *, bold: bool) -> Span:
    if inner.startswith("@"):
        return Span(f"@{names.get(inner[1:], inner[1:])}", bold=bold, link=True)
    url, _, label = inner.partition("|")
    return Span(unescape(label or url), bold=bold, link=True)
