"""Pages as a test reads them: elements with attributes and text, by the parser of the standard library."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr", "path", "circle"}


@dataclass
class Element:
    """One element, with its children in order; a text is a child that is a str."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list["Element | str"] = field(default_factory=list)

    def __getitem__(self, name: str) -> str:
        return self.attributes[name]

    def all(self, tag: str = "", **attributes: str | bool) -> Iterator["Element"]:
        """All elements below it with that tag and these attributes, in the order of the page. True: with any value."""
        for child in self.children:
            if isinstance(child, Element):
                if tag in ("", child.tag) and child.has(**attributes):
                    yield child
                yield from child.all(tag, **attributes)

    def one(self, tag: str = "", **attributes: str | bool) -> "Element":
        """The only such element."""
        found = list(self.all(tag, **attributes))
        assert len(found) == 1, f"{len(found)} elements {tag} {attributes} in: {self.text[:500]}"
        return found[0]

    def has(self, **attributes: str | bool) -> bool:
        """Whether it has these attributes. `class_` is one of its classes; `_` in a name is `-`."""
        for name, value in attributes.items():
            own = self.attributes.get(name.rstrip("_").replace("_", "-"))
            if own is None or (isinstance(value, str) and value != own and not (name == "class_" and value in own.split())):
                return False
        return True

    @property
    def text(self) -> str:
        """All its text, with single blanks."""
        return " ".join("".join(self._texts()).split())

    def _texts(self) -> Iterator[str]:
        for child in self.children:
            if isinstance(child, str):
                yield child
            else:
                yield " "
                yield from child._texts()
                yield " "

    def fields(self) -> dict[str, str]:
        """What a browser would send of this form, without its buttons: the last value of each name."""
        return dict(self.pairs())

    def pairs(self) -> list[tuple[str, str]]:
        """What a browser would send of this form, without its buttons."""
        found = []
        for element in self.all():
            name, kind = element.attributes.get("name"), element.attributes.get("type", "text")
            if name is None or "disabled" in element.attributes:
                continue
            if element.tag == "input" and (kind not in ("checkbox", "radio") or "checked" in element.attributes):
                found.append((name, element.attributes.get("value", "on" if kind == "checkbox" else "")))
            elif element.tag == "textarea":
                found.append((name, "".join(element._texts()).removeprefix("\n")))
            elif element.tag == "select":
                options = list(element.all("option"))
                chosen = [option for option in options if "selected" in option.attributes] or options[:1]
                for option in chosen:
                    found.append((name, option.attributes.get("value", option.text)))
        return found


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("")
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)


def parse(text: str) -> Element:
    """The page as one element. Fails if an element is closed that is not the last one that was opened."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    assert parser._open == [parser.root], f"not closed: {[element.tag for element in parser._open[1:]]}"
    return parser.root
