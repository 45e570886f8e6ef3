"""The console's test mail with a mail server: what it said."""

from contextlib import closing

from tests.console.client import Browsers
from tests.support.given import Given
from tests.support.installation import Installation, eventually
from tests.support.smtp import mail_server


def test_what_the_mail_server_said_is_shown(own: Installation) -> None:
    with mail_server() as server, closing(Given(own)) as given, closing(Browsers(given)) as browsers:
        own.environment["SMTP_URL"] = server.url
        own.start("api", "relay", "work:mail").wait_until_ready()
        admin = given.admin()
        browser = browsers.of(admin)
        page = browser.post("/console/connections/mail")
        eventually(lambda: "Accepted" in browser.get(page.answer.url.path).text, seconds=40)
        assert [mail.recipients for mail in server.mails] == [(admin.email,)]

        server.answers["RCPT"] = ["550 <b>no such mailbox</b>"]
        page = browser.post("/console/connections/mail")
        eventually(lambda: "Failed" in browser.get(page.answer.url.path).text, seconds=40)
        assert "550 <b>no such mailbox</b>" in browser.get(page.answer.url.path).html.one("pre").text
