"""Breakages of Xero and Slack."""

from tests.faults.drill.breakage import Breakage
from tests.faults.drill.site import OTHERS, Site
from tests.support.given import Json

NEW_TOKEN = "xoxb-another-one"


def _close_the_project(site: Site) -> None:
    site.firm.xero.close_project(site.firm.project)
    site.firm.approved()


def _open_the_project(site: Site, _: Json) -> None:
    site.firm.xero.change_project(site.firm.project, status="INPROGRESS")
    body = {"filter": {"xeroStatus": "failed"}, "reason": "the project is open again"}
    site.firm.admin.post("/api/xero/time-bills/send", body, status=200)


def _cut_xero_off(site: Site) -> None:
    site.proxies["xero"].refuse()
    site.firm.approved(day="2026-03-04")


def _cut_slack_off(site: Site) -> None:
    view = site.member.open_form("Move the web shop")
    site.slack.inject_fault("drop_before", path="/api/")
    site.member.submit(view)


def _revoke_the_token(site: Site) -> None:
    view = site.member.open_form("Move the server")
    site.slack.configure(revoked=True)
    site.member.submit(view)


def _install_again(site: Site, _: Json) -> None:
    site.slack.configure(revoked=False, botToken=NEW_TOKEN)
    site.restart("api", SLACK_BOT_TOKEN=NEW_TOKEN)
    site.restart(OTHERS)
    site.stint.wait_until_ready()


BREAKAGES = [
    Breakage(
        "a closed project at Xero",
        "Xero has refused 1 bill",
        "Xero has refused bills",
        "fix that in Xero, then an admin sends these bills again",
        _close_the_project,
        _open_the_project,
    ),
    Breakage(
        "Xero is away",
        "Xero does not answer",
        "Xero or Slack does not answer",
        "restore the network",
        _cut_xero_off,
        lambda site, _: site.proxies["xero"].heal(),
    ),
    Breakage(
        "Slack is away",
        "Slack does not answer",
        "Xero or Slack does not answer",
        "restore the network",
        _cut_slack_off,
        lambda site, _: site.slack.clear_faults(),
    ),
    Breakage(
        "the token of Slack is revoked",
        "Slack refuses calls since",
        "Xero and Slack",
        "install an app again that was removed",
        _revoke_the_token,
        _install_again,
    ),
]
