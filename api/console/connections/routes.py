"""The routes of the page of connections, a part of CONSOLE_ROUTES."""

from litestar.handlers import HTTPRouteHandler

from api.console.connections import differences, mail, overview, slack, xero

CONNECTION_ROUTES: list[tuple[str, str, HTTPRouteHandler]] = [
    ("GET", "/console/connections", overview.show_connections),
    ("POST", "/console/connections/xero/consent", xero.begin_consent),
    ("GET", "/console/connections/xero/callback", xero.end_consent),
    ("POST", "/console/connections/xero/disconnect", xero.disconnect),
    ("POST", "/console/connections/xero/send-failed", xero.send_failed),
    ("GET", "/console/connections/xero/differences", differences.show_differences),
    ("POST", "/console/connections/xero/differences", differences.settle),
    ("GET", "/console/connections/slack", slack.show_slack),
    ("POST", "/console/connections/mail", mail.send_test_mail),
    ("GET", "/console/connections/mail/{message_id:str}", mail.show_test_mail),
]
