"""The week that a page shows, and the links that keep what the page shows."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, ClassVar
from urllib.parse import urlencode


@dataclass(frozen=True)
class ShownWeek:
    """The week from the Monday `first` on. A page's own class has the `PATH` of the page, and the rest of its `query`."""

    PATH: ClassVar[str]
    first: date

    @property
    def last(self) -> date:
        """The last day of the week."""
        return self.first + timedelta(days=6)

    @property
    def query(self) -> dict[str, Any]:
        """The query of the page by name; None: without it."""
        return {"week": self.first}

    def week(self, weeks: int) -> str:
        """The link to the week `weeks` weeks later, at its beginning, without a day that is open."""
        return self.link(week=self.first + timedelta(weeks=weeks), open=None, page=None)

    def link(self, path: str = "", **changes: Any) -> str:
        """The path below that of the page, with the present query and these values instead of its own. None: without it."""
        query = {name: value for name, value in (self.query | changes).items() if value}
        return f"{self.PATH}{path}?{urlencode(query)}"
