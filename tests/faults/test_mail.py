"""Mail while the worker is killed, and while the mail server refuses it."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support.given import Given
from tests.support.installation import Installation, eventually
from tests.support.sizes import MAIL_KILLS
from tests.support.smtp import MailServer, mail_server


@pytest.fixture
def post() -> Iterator[MailServer]:
    with mail_server() as caught:
        yield caught


@pytest.mark.slow
def test_20_people_hear_of_a_pillar_while_the_worker_is_killed(own: Installation, post: MailServer) -> None:
    own.environment |= {"SMTP_URL": post.url}
    own.start("api", "relay", "work:mail").wait_until_ready()
    given = Given(own)
    admin = given.admin()
    given.people(19)
    path = f"/api/customers/{given.customer(admin)['id']}/pillars"
    pillar = admin.post(path, {"name": "Hosting"})
    expected = {email for (email,) in own.rows("SELECT email FROM users")}
    assert len(expected) == 20

    admin.put(f"{path}/{pillar['id']}", {"active": False})
    for kill in range(MAIL_KILLS):
        # each kill finds some mail sent and some not, whatever the machine's speed
        eventually(lambda least=3 * (kill + 1): len(post.mails) >= least, seconds=60, why="mail goes on between kills")
        own.kill("work:mail")
        own.start("work:mail")
    given.settled(seconds=90)  # what the last kill interrupted waits until its lease has run out

    assert set(post.recipients()) == expected
    assert own.rows("SELECT state, count(*) FROM messages GROUP BY state") == [("done", 20)]
    assert all(len(mail.recipients) == 1 for mail in post.mails)
    repeated = [address for address, times in Counter(post.recipients()).items() if times > 1]
    # an answer that got lost may repeat a mail: then under the same Message-ID, and the log says so
    assert own.log("work:mail").count("sending this mail again") >= len(post.mails) - 20
    assert len({mail.message["Message-ID"] for mail in post.mails}) == 20, repeated
    given.close()
