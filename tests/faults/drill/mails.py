"""Breakages of the mail server."""

from tests.faults.drill.breakage import Breakage
from tests.faults.drill.site import OTHERS, PASSWORD, Site


def _log_in_with(site: Site, password: str) -> None:
    site.restart(OTHERS, SMTP_URL=site.mail.url_with(password))


BREAKAGES = [
    Breakage(
        "a wrong SMTP password",
        "mail refuses the login: 535",
        "Mail refuses the login",
        "set SMTP_URL right and restart Stint",
        lambda site: _log_in_with(site, "a wrong one"),
        lambda site, _: _log_in_with(site, PASSWORD),
    ),
]
