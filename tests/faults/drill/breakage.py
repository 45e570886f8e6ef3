"""What is broken in a drill, who has to tell it, and how it is repaired."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.drill.site import Site
from tests.support.given import Json


@dataclass(frozen=True)
class Breakage:
    """`doctor`: words of the finding that must come first. `alert`: its name in ops/alerts, None if an age of an hour or more
    is what it tells. `cure`: in the words of docs/operations.md. `repair` gets the finding, whose commands it carries out.
    `prepare` comes before it, and leaves nothing wrong; `tidy` is after it, whatever happened."""

    name: str
    doctor: str
    alert: str | None
    cure: str
    do: Callable[[Site], object]
    repair: Callable[[Site, Json], object]
    section: str = ""  # of docs/operations.md, if it is not the alert's
    prepare: Callable[[Site], object] = lambda _: None
    tidy: Callable[[Site], object] = lambda _: None
    left_out: Callable[[Site], str] = lambda _: ""  # why it cannot be done on this machine

    def __post_init__(self) -> None:
        if not self.section and self.alert is not None:
            object.__setattr__(self, "section", self.alert)

    def __str__(self) -> str:
        return self.name
