"""The page about a row that is not there any more: it was deleted meanwhile, or by the first of two clicks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from litestar import Request, Response

from api.console.forms import Form
from api.console.pages import fragment
from api.console.sessions import READING
from api.console.signing_in.state import KeptForm
from schemas.errors import NotFound


class Gone(NotFound):
    """`what`: a noun, such as `entry`; `back`: the path of a page that is still there, and `label` what it shows; `form`: what
    was sent."""

    def __init__(self, what: str, back: str, label: str, form: Form[Any] | None) -> None:
        super().__init__(f"There is no such {what}.")
        self.what, self.back, self.label, self.form = what, back, label, form


@contextmanager
def gone_if_missing(what: str, back: str, label: str, form: Form[Any] | None = None) -> Iterator[None]:
    """Turns NotFound into Gone, whose page leads back and shows what was typed."""
    try:
        yield
    except NotFound:
        raise Gone(what, back, label, form) from None


def gone_page(request: Request[Any, Any, Any], error: Gone) -> Response[bytes]:
    """404 with the page."""
    sent = error.form.typed.items() if error.form is not None else ()
    typed = KeptForm("", [(name, value) for name, values in sent for value in values]).typed
    is_write = request.scope["method"] not in READING
    return fragment(request, "gone.html", status=404, gone=error, typed=typed, is_write=is_write)
