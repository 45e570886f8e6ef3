"""What Slack's events say about mapped channels: their names, their ids, and whether they are archived."""

import time
from itertools import count

from ops.sandbox.slack import requests
from tests.slack.test_tasks import mapped
from tests.support.given import Given, Json, Person
from tests.support.installation import eventually
from tests.support.slack_sandbox import Member, texts

PATH = "/api/slack/channel-mappings"
NOW = int(time.time())
numbers = count()


def happened(member: Member, content: Json, *, at: int = NOW) -> None:
    """Slack sends the event, which happened at that time."""
    assert member.send(requests.event(content, event_id=f"EvChannel{next(numbers)}", event_time=at)) is None


def mapping_of(person: Person, mapping: Json) -> Json:
    """The mapping as it is now."""
    found: list[Json] = [row for row in person.get(PATH)["items"] if row["id"] == mapping["id"]]
    return found[0]


def test_an_older_event_that_arrives_later_changes_nothing(member: Member, person: Person, customer: Json) -> None:
    mapping = mapped(person, member.channel, customer)

    def name_after(name: str, at: int, ts: str | None = None, kind: str = "channel_rename") -> str:
        content = {"type": kind, "channel": {"id": member.channel, "name": name, "created": 1}} | (
            {"event_ts": ts} if ts else {}
        )
        happened(member, content, at=at)
        return str(mapping_of(person, mapping)["channelName"])

    assert name_after("second", NOW) == "second"
    assert name_after("first", NOW - 1) == "second"
    assert name_after("last of a second", NOW + 1, f"{NOW + 1}.000300") == "last of a second"
    assert name_after("within it", NOW + 1, f"{NOW + 1}.000200", "group_rename") == "last of a second"
    assert name_after("third", NOW + 2, "of another shape") == "third"
    # the time of a name is not that of the archive: both are followed, in any order
    happened(member, {"type": "channel_archive", "channel": member.channel, "user": member.id}, at=NOW - 5)
    happened(member, {"type": "channel_unarchive", "channel": member.channel, "user": member.id}, at=NOW - 6)
    assert mapping_of(person, mapping)["archived"]
    # a mapping of another channel begins without any of that
    person.put(f"{PATH}/{mapping['id']}", {"channelId": f"{member.channel}X"})
    happened(member, {"type": "channel_rename", "channel": {"id": f"{member.channel}X", "name": "other"}}, at=NOW - 60)
    changed = mapping_of(person, mapping)
    assert (changed["archived"], changed["channelName"]) == (False, "other")


def test_an_archived_or_deleted_channel_gets_no_confirmations(member: Member, person: Person, customer: Json) -> None:
    mapping = mapped(person, member.channel, customer)
    ways = [("channel_archive", "channel_unarchive"), ("group_archive", "group_unarchive"), ("channel_deleted", "")]
    for number, (archived, unarchived) in enumerate(ways):
        happened(member, {"type": archived, "channel": member.channel}, at=NOW + 2 * number)
        assert mapping_of(person, mapping)["archived"]
        assert member.submit(member.open_form(f"Archived {number}")) is None
        eventually(lambda: f"Archived {number}" in texts(member.slack.messages(member.id)))  # noqa: B023
        if unarchived:
            happened(member, {"type": unarchived, "channel": member.channel}, at=NOW + 2 * number + 1)
            assert not mapping_of(person, mapping)["archived"]
    assert member.slack.messages(member.channel) == []


def test_a_channel_that_gets_another_id_keeps_its_mapping(member: Member, person: Person, given: Given, customer: Json) -> None:
    mapping, new, taken = mapped(person, member.channel, customer), member.slack.channel(), member.slack.channel()
    other = mapped(person, taken, given.customer(person))

    happened(member, {"type": "channel_id_changed", "old_channel_id": member.channel, "new_channel_id": new})
    assert mapping_of(person, mapping)["channelId"] == new
    assert member.submit(member.open_form("Still confirmed", channel=new)) is None
    eventually(lambda: "Still confirmed" in texts(member.slack.messages(new)))

    # a channel that is mapped already keeps its customer
    happened(member, {"type": "channel_id_changed", "old_channel_id": new, "new_channel_id": taken})
    assert mapping_of(person, other) == other
    left = mapping_of(person, mapping)
    assert (left["channelId"], left["archived"]) == (new, True)


def test_a_channel_event_of_another_shape_is_acknowledged(member: Member, person: Person, customer: Json) -> None:
    mapping = mapped(person, member.channel, customer)
    for kind in ("channel_rename", "channel_archive", "channel_deleted", "channel_id_changed", "group_unarchive"):
        channels: list[object] = [None, 5, [], {}, {"id": []}, "c 1", {"id": member.channel, "name": 5}, "C" * 41]
        for channel in channels:
            happened(member, {"type": kind, "channel": channel, "old_channel_id": member.channel, "new_channel_id": channel})
    archived = mapping_of(person, mapping)
    assert archived | {"archived": False, "version": 1, "updatedAt": ""} == mapping | {"updatedAt": ""}
