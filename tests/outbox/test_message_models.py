"""What a body must be, and how often each message is tried."""

import pytest

from schemas.errors import InvalidBody
from schemas.messages import MODELS, parse_body


@pytest.mark.parametrize(
    ("actor", "body"),
    [
        ("move_entries", {"task_id": "0b7fbd4e-26e4-4a8e-9f0e-6a3f7c1d2b5a", "colour": "red"}),  # of a newer version
        ("move_entries", {}),
        ("move_entries", {"task_id": "everything"}),
        ("launch_rocket", {}),
    ],
)
def test_a_body_that_this_version_does_not_know_is_refused(actor: str, body: dict[str, str]) -> None:
    with pytest.raises(InvalidBody):
        parse_body(actor, body)


def test_how_often_each_message_is_tried() -> None:
    """docs/guarantees.md: 5 times for timers and bills; for an hour for mails and posts; a bill to Xero for more than two
    hours."""
    often = {name: model.max_attempts for name, model in MODELS.items() if model.max_attempts != 5}
    assert often.pop("sync_bill") == 25
    mails = {"send_mail", "send_code", "remind_invited", "remove_account", "read_user_pool"}
    posts = {"post_task_created", "nudge_owner", "post_approvals", "tell_rejection", "publish_home", "remind_of_hours"}
    assert often == dict.fromkeys(mails | posts, 15), (
        "a message whose max_attempts is not 5 is listed here, and in the row of docs/guarantees.md about messages that crash"
    )
