"""The pictures in docs/slack.md show what Stint sends. To draw them again:

STINT_WRITE_PICTURES=1 ./stint test -n 0 tests/slack/test_pictures.py
"""

import json
import os
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

from ops.sandbox.slack.picture import Form, Message, Part, Typed, picture
from schemas.messages import RemindOfHours
from schemas.postgres.connection import Connection
from schemas.slack.approvals.direct import DirectMessage
from schemas.slack.reminders import messages
from tests.outbox.rows import over
from tests.slack.approving import admin_in, opened, pressed
from tests.slack.at_home import AtHome
from tests.slack.test_presses import Pressed, buttons
from tests.slack.test_previews import APP, share
from tests.slack.test_tasks import mapped
from tests.support.given import Given, Json, Person
from tests.support.installation import CHECKOUT, Installation, eventually
from tests.support.slack_sandbox import Member, SlackSandbox

PAGE = CHECKOUT / "docs/slack.md"
PICTURES = CHECKOUT / "docs/images/slack"
WRITES = os.environ.get("STINT_WRITE_PICTURES") == "1"
ONLY_YOU, CHANNEL, DIRECT = "Only visible to you", "#acme, which belongs to Acme Ltd", "Direct message"
BERLIN = ZoneInfo("Europe/Berlin")
EVERY_DAY = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


@dataclass
class Album:
    """What a person sees, by the names of the pictures."""

    member: Member
    channel: str  # where they type
    parts: dict[str, list[Part]] = field(default_factory=dict)

    def add(self, name: str, *parts: Part) -> None:
        self.parts.setdefault(name, []).extend(parts)

    def run(self, name: str, command: str, channel: str | None = None) -> Json:
        """Types a command, and keeps its answer."""
        answer: Json = self.member.run_command(command.removeprefix("/task").strip(), channel or self.channel)
        self.add(name, Typed(command), Message(answer["text"], answer.get("blocks") or (), ONLY_YOU))
        return answer


def noon_or_berlin() -> str:
    """A time zone in which no midnight is near, so that today's hours are those of today, and not the end of the working day,
    which may be the minute of the last activity."""
    if datetime.now(BERLIN).hour in {*range(4, 16), *range(18, 22)}:
        return BERLIN.key
    hour = datetime.now(ZoneInfo("UTC")).hour
    return f"Etc/GMT{hour - 12:+d}" if hour != 12 else "Etc/GMT"


def test_the_pictures_show_what_stint_sends(slack: SlackSandbox, stint: Installation, person: Person, given: Given) -> None:
    zone = noon_or_berlin()
    acme, globex = (given.customer(person, name=name) for name in ("Acme Ltd", "Globex & Sons"))
    mail = given.task(person, acme, title="Migrate the mail server")
    given.task(person, globex, title="Printer in the lobby")
    member = Member(slack, stint, slack.user(person.email, tz=zone), slack.channel())
    mapped(person, member.channel, acme)
    admin, grace = admin_in(member.channel, slack, stint, given)
    rename = "UPDATE users SET name = %s WHERE id = %s RETURNING 1"
    stint.rows(rename, "Ada", person.id)
    stint.rows(rename, "Grace", admin.id)
    stint.rows("UPDATE tasks SET created_at = created_at - interval '9 days' WHERE created_by = %s RETURNING 1", person.id)
    names = {member.id: "Ada", grace.id: "Grace"}
    album = Album(member, slack.channel())

    home(album, person, mail)
    reminder(album, stint, person, zone)
    approvals(album, grace, given, person, mail)
    nudge(album, stint, person, mail)
    commands(album, stint, person, mail)
    form(album)
    unfurl_id = share(member, f"{APP}/tasks/{mail['id']}", channel=member.channel)
    [preview] = eventually(lambda: slack.unfurls(unfurl_id))
    for shown in preview.values():
        album.add("preview", Typed(f"{APP}/tasks/… in the channel"), Message("", shown["blocks"], "Preview of the link"))

    drawn = {name: picture(parts, names=names) for name, parts in album.parts.items()}
    if WRITES:
        PICTURES.mkdir(parents=True, exist_ok=True)
        for name, svg in drawn.items():
            path = PICTURES / f"{name}.svg"
            if not path.exists() or said(path.read_text(), BERLIN.key) != said(svg, zone):  # not because of the time of day
                path.write_text(svg.replace(zone, BERLIN.key))
    assert {path.stem for path in PICTURES.glob("*.svg")} == set(drawn)
    for name, svg in drawn.items():
        assert said((PICTURES / f"{name}.svg").read_text(), BERLIN.key) == said(svg, zone), f"draw {name} again: see above"


def home(album: Album, person: Person, task: Json) -> None:
    """With a timer that runs, on a day after a working day without an entry."""
    person.patch("/api/me/working-hours", {"days": EVERY_DAY})
    person.post(f"/api/tasks/{task['id']}/start", {"notes": "Reading the logs"})
    tab = AtHome(album.member)
    tab.opened()
    album.add("home", Message("", tab.view["blocks"], "The Home tab, which only you see"))


def reminder(album: Album, stint: Installation, person: Person, zone: str) -> None:
    """With a timer that runs on since before the working day ended, ten minutes ago."""
    now = datetime.now(ZoneInfo(zone))
    end = now - timedelta(minutes=10)
    hours = {"reminders": True, "start": "00:00", "end": f"{end:%H:%M}", "hoursPerDay": min(8, end.hour)}
    person.patch("/api/me/working-hours", hours)
    ago = "UPDATE timers SET start_time = start_time - interval '2 hours' WHERE user_id = %s RETURNING 1"
    stint.rows(ago, person.id)

    async def build(conn: Connection) -> Message:
        built = await messages.build(conn, RemindOfHours(user_id=UUID(person.id), day=now.date()), settings=stint.settings)
        assert isinstance(built, DirectMessage)
        return Message(built.text, built.blocks, DIRECT)

    album.add("reminder", over(stint.settings.database_url, build))
    person.patch("/api/me/working-hours", dict.fromkeys(hours))
    person.http.delete("/api/active-timers/me")


def approvals(album: Album, grace: Member, given: Given, person: Person, task: Json) -> None:
    given.many_bills(person, task, 2, seconds=5400, first="2026-03-02")
    member = album.member
    answer = grace.run_command("approve")
    album.add("approve", Typed("/task approve"), Message(answer["text"], answer["blocks"], ONLY_YOU))
    view = opened(grace, answer["blocks"])
    album.add("reject", Typed("Reject…"), Form(view))
    bill = view["blocks"][1]["element"]["initial_options"][1]["value"]
    assert grace.submit(view, bills=bill, reason="Please name the ticket.") is None
    [told] = eventually(lambda: member.slack.messages(member.id))
    album.add("reject", Typed("What the consultant gets"), Message(told["text"], told["blocks"], DIRECT))
    hook = urlsplit(json.loads(view["private_metadata"])["response_url"]).path
    [after] = eventually(lambda: member.slack.answers(hook))
    path = pressed(grace, after["blocks"], "Approve")
    [after] = eventually(lambda: member.slack.answers(path))
    album.add("approve", Typed("Approve, after one bill was rejected"), Message("", after["blocks"], ONLY_YOU))


def nudge(album: Album, stint: Installation, person: Person, task: Json) -> None:
    member = album.member
    timer = person.post(f"/api/tasks/{task['id']}/start")["id"]
    stint.rows("UPDATE timers SET start_time = start_time - interval '25 hours' WHERE id = %s RETURNING 1", timer)
    asked = eventually(lambda: [each for each in member.slack.messages(member.id) if "has been running" in each["text"]])
    album.add("nudge", Message(asked[0]["text"], asked[0]["blocks"], DIRECT))
    before = {view["id"] for view in member.slack.views()}
    member.press("choose_end", timer)
    [view] = [view for view in member.slack.views() if view["id"] not in before]
    album.add("nudge", Typed("Another time…"), Form(view))
    person.http.delete("/api/active-timers/me")


def commands(album: Album, stint: Installation, person: Person, task: Json) -> None:
    album.run("help", "/task help")
    album.run("list", "/task list")
    album.run("log", "/task log 1h30")
    album.run("log", "/task log 45m mail server: moved the boxes")
    album.run("log", "/task log 30m mail server")
    album.run("hours", "/task today")
    album.run("hours", "/task week")
    album.run("question", "/task stpo")
    album.run("start", "/task start")
    album.run("start", "/task start mail server")
    ago = "UPDATE timers SET start_time = date_trunc('second', now()) - interval '83 minutes' WHERE task_id = %s RETURNING 1"
    stint.rows(ago, task["id"])
    album.run("status", "/task status")
    album.run("status", "/task status", album.member.channel)
    album.run("note", "/task note The cable was broken")
    album.run("switch", "/task switch")
    album.run("stop", "/task stop")


def form(album: Album) -> None:
    member = album.member
    view = member.open_form("Renew the licences", member.channel)
    album.add("form", Typed("/task Renew the licences"), Form(view))
    assert member.submit(view) is None
    [posted] = eventually(lambda: member.slack.messages(member.channel))
    album.add("confirmation", Message(posted["text"], posted["blocks"], CHANNEL))
    message = Pressed(member, posted["ts"], posted)
    task = next(value for label, value in buttons(posted) if label == "Done")
    started = message.press("start_timer", task)
    album.add("confirmation", Typed("Start timer"), Message(started["text"], started["blocks"], ONLY_YOU))
    done = message.press("finish_task", task)
    album.add("confirmation", Typed("Done"), Message(done["text"], done.get("blocks") or (), ONLY_YOU))
    changes = eventually(
        lambda: [
            each for each in member.slack.answers() if f"<@{member.id}> has set the task to done" in str(each.get("blocks"))
        ]
    )
    album.add("confirmation", Typed("The confirmation now"), Message("", changes[-1]["blocks"], CHANNEL))


def said(svg: str, zone: str) -> str:
    """The text of a picture, without numbers, days, the time zone and the ends of lines, which depend on when it was drawn."""
    found = ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314
    whole = " ".join(" ".join(found).split()).replace(zone, "ZONE")
    weekday = r"\b(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?=\d)|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b)"
    day = r"\b\d{1,2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b ?"
    return re.sub(r"\d+", "0", re.sub(day, "", re.sub(weekday, "", whole)))


def test_what_a_picture_says_is_the_same_on_other_days() -> None:
    def drawn(*lines: str) -> str:
        return said(
            f'<svg xmlns="http://www.w3.org/2000/svg">{"".join(f"<text>{line}</text>" for line in lines)}</svg>', "Zone"
        )

    texts = ("45 min today, {0} (Zone)", "since {1} (Zone)", "{0}: 45 min", "Stop at {1} 17:00 Zone", "{0} 2026-03-02, {0}day")
    once = drawn(*(text.format("Tue 1 Dec", "Mon 30 Nov") for text in texts[:4]), texts[4].format("Mon"))
    later = drawn(*(text.format("Mon 1 Mar", "Mon 1 Mar") for text in texts[:3]), "Stop at 9:05 Zone", texts[4].format("Fri"))
    assert once == later
    assert once != drawn("44 min today, Tue 1 Dec (Zone)")


def test_each_picture_is_shown_in_the_page() -> None:
    shown = re.findall(r"!\[[^\]]+\]\(images/slack/([a-z-]+)\.svg\)", PAGE.read_text())
    assert sorted(shown) == sorted(path.stem for path in Path(PICTURES).glob("*.svg"))
