"""Breakages of the mail server."""

from tests.faults.drill.breakage import Breakage
from tests.faults.drill.site import OTHERS, Site


def _refuse(site: Site) -> None:
    site.proxies["smtp"].refuse()
    site.send_a_mail()


BREAKAGES = [
    Breakage(
        "a wrong SMTP password",
        "mail refuses the login: 535",
        "Mail refuses the login",
        "set SMTP_URL right and restart Stint",
        lambda site: site.restart(OTHERS, SMTP_URL=site.smtp_url("a wrong one")),
        lambda site, _: site.restart(OTHERS, SMTP_URL=site.smtp_url()),
    ),
    Breakage(
        "SMTP refuses connections",
        "mail does not answer",
        "Mail does not answer",
        "start it",
        _refuse,
        lambda site, _: site.proxies["smtp"].heal(),
    ),
]
