"""Breakages of Xero and Slack."""

from tests.faults.drill.breakage import Breakage
from tests.faults.drill.site import OTHERS, Site
from tests.support.given import Json
from tests.support.installation import eventually
from tests.support.user_pool import UserPool

READ = "(read_at IS NOT NULL AND error IS NULL)"  # the user pool was, and nothing went wrong since
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


def _use_a_pool(site: Site) -> None:
    """For the relay, which starts the readings, and the worker, which reads. A reading removes none of the firm's people, who
    are not in the pool: it takes them for new."""
    before, site.pool = dict(site.stint.environment), site.held.enter_context(UserPool(site.stint.directory))
    with site.stint.sql() as conn:
        conn.execute("UPDATE users SET created_at = created_at + interval '1 day'")
    site.held.callback(_leave_the_pool, site, before)
    for name in ("relay", OTHERS):
        site.restart(name, **site.pool.environment)
    eventually(lambda: site.stint.value(f"SELECT {READ} FROM user_pool_readings"), seconds=60, why="the pool was read")


def _leave_the_pool(site: Site, environment: dict[str, str]) -> None:
    site.stint.environment = environment
    for name in ("relay", OTHERS):
        site.restart(name)
    eventually(lambda: site.stint.value(f"SELECT NOT {READ} FROM user_pool_readings"), seconds=60, why="it is forgotten")
    with site.stint.sql() as conn:
        conn.execute("UPDATE users SET created_at = created_at - interval '1 day'")


def _cut_the_pool_off(site: Site) -> None:
    assert site.pool is not None
    site.pool.line.mode = "refuse"
    site.pool.line.cut()


def _restore_the_way_to_the_pool(site: Site, _: Json) -> None:
    assert site.pool is not None
    site.pool.line.mode = "pass"


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
    Breakage(
        "the user pool cannot be read",
        "it does not answer (",
        "User pool was last read",
        "restore the network from the workers for mail to the pool",
        _cut_the_pool_off,
        _restore_the_way_to_the_pool,
        prepare=_use_a_pool,
        tidy=lambda site: site.held.close(),
    ),
]
