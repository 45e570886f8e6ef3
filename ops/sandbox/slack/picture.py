"""Pictures (SVG) of what a person sees in Slack, made of the blocks that Stint sends: messages, answers and forms.

They are drawings of the content, not of Slack's design. Each part has its own light background, so that a picture can be read
on a dark page, too. Texts stay texts: one <text> for each line.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from ops.sandbox.slack.mrkdwn import Span, spans

Json = dict[str, Any]

WIDTH, MARGIN, INDENT = 640, 16, 52
LINE, GAP, FIELD = 21, 10, 34  # heights of a line, between blocks, and of a field or button
SIZE, SMALL = 15, 12.5  # of fonts
INK, PALE, LINK, GREEN, RULE, PAPER = "#1d1c1d", "#616061", "#1264a3", "#007a5a", "#c8c8c8", "#ffffff"
SANS = "Helvetica, Arial, sans-serif"
MONO = "Menlo, Consolas, monospace"
NARROW, WIDE = "iljtfr.,:;'|!()[] ", "mwMWGOQ@%—…"


@dataclass(frozen=True)
class Typed:
    """What the person types or presses."""

    text: str


@dataclass(frozen=True)
class Message:
    """A message of Stint's. `note`: a line above it, such as who sees it."""

    text: str
    blocks: Sequence[Json] = ()
    note: str = ""


@dataclass(frozen=True)
class Form:
    """An open form."""

    view: Json


Part = Typed | Message | Form


def picture(parts: Sequence[Part], *, names: dict[str, str]) -> str:
    """The SVG. `names` are those of the ids in mentions."""
    page = _Page(names)
    for part in parts:
        match part:
            case Typed():
                page.typed(part.text)
            case Message():
                page.message(part)
            case Form():
                page.form(part.view)
    return page.svg()


@dataclass
class _Page:
    """The elements so far, and where the next one begins."""

    names: dict[str, str]
    y: float = 8
    drawn: list[str] = field(default_factory=list)

    def svg(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{self.y:g}" viewBox="0 0 {WIDTH} {self.y:g}" '
            f'role="img" font-family="{SANS}" font-size="{SIZE}" fill="{INK}">'
        )
        return "\n".join([head, *self.drawn, "</svg>", ""])

    def typed(self, text: str) -> None:
        """A command as it is typed, or what is pressed."""
        is_command = text.startswith("/")
        width = _width(text, SIZE) * (1.25 if is_command else 1.05) + 28
        self.box(MARGIN, self.y, width, 30, fill="#f1f1f1", round=15)
        self.line([Span(text, code=is_command)], MARGIN + 14, self.y + 20, colour=PALE if not is_command else INK)
        self.y += 30 + GAP

    def message(self, message: Message) -> None:
        self._card(lambda: self._message(message))

    def _message(self, message: Message) -> None:
        if message.note:
            self.line([Span(message.note)], INDENT + 8, self.y + 12, size=SMALL, colour=PALE)
            self.y += 20
        self.box(MARGIN + 10, self.y, 26, 26, fill=GREEN, round=6)
        self.line([Span("S", bold=True)], MARGIN + 18, self.y + 18, colour=PAPER)
        self.line([Span("Stint", bold=True)], INDENT + 8, self.y + 13)
        self.box(INDENT + 52, self.y + 1, 30, 15, fill="#e8e8e8", round=3)
        self.line([Span("APP")], INDENT + 55.5, self.y + 12, size=10, colour=PALE)
        self.y += LINE
        blocks = message.blocks or [{"type": "section", "text": {"type": "mrkdwn", "text": message.text}}]
        self.blocks(blocks, INDENT + 8, WIDTH - MARGIN - 12)

    def form(self, view: Json) -> None:
        self._card(lambda: self._form(view), left=60, right=60)

    def _form(self, view: Json) -> None:
        left, right = 60 + 18, WIDTH - 60 - 18
        self.line([Span(view["title"]["text"], bold=True)], left, self.y + 14, size=18)
        self.y += 34
        self.blocks(view["blocks"], left, right)
        buttons = [(name, view[name]["text"]) for name in ("close", "submit") if view.get(name)]
        x = right - sum(_button_width(text) + 8 for _, text in buttons) + 8
        for name, text in buttons:
            x += self.button(text, x, is_primary=name == "submit") + 8
        self.y += FIELD

    def _card(self, draw: Callable[[], None], *, left: int = MARGIN, right: int = MARGIN) -> None:
        place, top = len(self.drawn), self.y
        self.y += 14
        draw()
        self.y += 12
        after = self.drawn[place:]
        del self.drawn[place:]
        self.box(left, top, WIDTH - left - right, self.y - top, fill=PAPER, stroke=RULE, round=8)
        self.drawn += after
        self.y += GAP

    def blocks(self, blocks: Sequence[Json], left: float, right: float) -> None:
        for block in blocks:
            match block["type"]:
                case "section":
                    self._section(block, left, right)
                case "context":
                    for element in block["elements"]:
                        self.text(element, left, right, size=SMALL, colour=PALE)
                case "header":
                    self.text(block["text"], left, right, size=18, bold=True)
                case "divider":
                    self.drawn.append(f'<path d="M{left:g} {self.y + 2:g}H{right:g}" stroke="{RULE}"/>')
                    self.y += 5
                case "actions":
                    self._actions(block["elements"], left, right)
                case "input":
                    self._input(block, left, right)
                case kind:
                    raise ValueError(f"a picture cannot show blocks of the type {kind}")
            self.y += GAP - 2

    def _section(self, block: Json, left: float, right: float) -> None:
        top, button = self.y, block.get("accessory")
        if button is not None:
            width = _button_width(button["text"]["text"])
            self.button(button["text"]["text"], right - width, is_primary=button.get("style") == "primary")
            right -= width + 12
        self.text(block["text"], left, right)
        self.y = max(self.y, top + (FIELD if button is not None else 0))

    def _actions(self, elements: Sequence[Json], left: float, right: float) -> None:
        x = left
        for element in elements:
            text = _label(element)
            is_button = element["type"] == "button"
            width = _button_width(text) if is_button else 260
            if x > left and x + width > right:
                x, self.y = left, self.y + FIELD + 6
            if is_button:
                self.button(text, x, is_primary=element.get("style") == "primary")
            else:
                self._field(text, x, x + width, colour=PALE, is_select=True)
            x += width + 8
        self.y += FIELD

    def _input(self, block: Json, left: float, right: float) -> None:
        element, optional = block["element"], " (optional)" if block.get("optional") else ""
        self.line([Span(block["label"]["text"], bold=True), Span(optional)], left, self.y + 14)
        self.y += LINE + 2
        values = _values(element)
        texts = values or [_placeholder(element)]
        is_select = element["type"] != "plain_text_input"
        for text in texts:
            rows = 2 if element.get("multiline") else 1
            self._field(text, left, right, colour=INK if values else PALE, is_select=is_select, rows=rows)
            self.y += FIELD + (rows - 1) * LINE + 4
        if hint := block.get("hint"):
            self.text(hint, left, right, size=SMALL, colour=PALE)

    def _field(self, text: str, left: float, right: float, *, colour: str, is_select: bool, rows: int = 1) -> None:
        self.box(left, self.y, right - left, FIELD + (rows - 1) * LINE, fill=PAPER, stroke=RULE, round=4)
        if text:
            self.line([Span(text)], left + 10, self.y + 22, colour=colour)
        if is_select:
            x, y = right - 20, self.y + 14
            self.drawn.append(f'<path d="M{x:g} {y:g}l5 6l5 -6" fill="none" stroke="{PALE}" stroke-width="1.5"/>')

    def button(self, text: str, x: float, *, is_primary: bool) -> float:
        width = _button_width(text)
        fill, stroke = (GREEN, GREEN) if is_primary else (PAPER, RULE)
        self.box(x, self.y, width, FIELD - 2, fill=fill, stroke=stroke, round=4)
        self.line(
            [Span(text, bold=True)], x + width / 2, self.y + 21, size=14, colour=PAPER if is_primary else INK, centred=True
        )
        return width

    def text(self, text: Json, left: float, right: float, *, size: float = SIZE, colour: str = INK, bold: bool = False) -> None:
        """A text of Slack's, in as many lines as it needs."""
        found = [Span(text["text"], bold=bold)] if text["type"] == "plain_text" else spans(text["text"], self.names)
        for row in _rows(found, right - left, size):
            self.line(row, left, self.y + 14, size=size, colour=colour)
            self.y += LINE * size / SIZE

    def line(
        self, row: Sequence[Span], x: float, y: float, *, size: float = SIZE, colour: str = INK, centred: bool = False
    ) -> None:
        parts = []
        for span in row:
            style = ' font-weight="bold"' if span.bold else ""
            style += f' font-family="{MONO}" font-size="{size - 1:g}"' if span.code else ""
            style += f' fill="{LINK}"' if span.link else ""
            shown = escape(span.text, quote=False)
            parts.append(f"<tspan{style}>{shown}</tspan>" if style else shown)
        fill = f' fill="{colour}"' if colour != INK else ""
        font = f' font-size="{size:g}"' if size != SIZE else ""
        font += ' text-anchor="middle"' if centred else ""
        self.drawn.append(f'<text x="{x:g}" y="{y:g}"{font}{fill} xml:space="preserve">{"".join(parts)}</text>')

    def box(self, x: float, y: float, width: float, height: float, *, fill: str, round: int, stroke: str | None = None) -> None:
        edge = f' stroke="{stroke}"' if stroke else ""
        self.drawn.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:.0f}" height="{height:g}" rx="{round}" fill="{fill}"{edge}/>'
        )


def _label(element: Json) -> str:
    return str(element["text" if "text" in element else "placeholder"]["text"])


def _placeholder(element: Json) -> str:
    return str((element.get("placeholder") or {"text": ""})["text"])


def _values(element: Json) -> list[str]:
    """What is entered or selected at first."""
    options = element.get("initial_options") or ([element["initial_option"]] if element.get("initial_option") else [])
    if options:
        return [option["text"]["text"] for option in options]
    if "initial_date_time" in element:
        return ["Today at 17:00"]  # Slack writes it for the zone of the person's device
    first = (element.get("initial_value") or "").partition("\n")[0]
    return [first] if first else []


def _rows(found: Sequence[Span], width: float, size: float) -> Iterator[list[Span]]:
    """The lines of a text that is as wide as that, each with at least one word."""
    row: list[Span] = []
    used = 0.0
    for span in found:
        for n, part in enumerate(span.text.split("\n")):
            if n:
                yield row
                row, used = [], 0.0
            for word in _words(part):
                wide = _width(word.rstrip(), size) * (1.25 if span.code else 1.08 if span.bold else 1)
                if row and used + wide > width:
                    yield row
                    row, used, word = [], 0.0, word.lstrip()
                used += _width(word, size) * (1.25 if span.code else 1.08 if span.bold else 1)
                if row and row[-1].style == span.style:
                    row[-1] = row[-1].joined(word)
                elif word:
                    row.append(span.with_text(word))
    yield row


def _words(text: str) -> list[str]:
    """The words, each with the spaces before it."""
    found = text.split(" ")
    return [word if n == 0 else f" {word}" for n, word in enumerate(found)]


def _width(text: str, size: float) -> float:
    """About how wide a text is, rather more."""
    return sum(0.37 if char in NARROW else 0.95 if char in WIDE else 0.72 if char.isupper() else 0.625 for char in text) * size


def _button_width(text: str) -> float:
    return round(_width(text, 14) * 1.15 + 28)
