"""The text of messages as a person sees it in Slack."""

from typing import Any

import pytest

from schemas.slack.reading.message_text import describe, title
from schemas.slack.reading.mrkdwn import Names, to_text

Json = dict[str, Any]
KNOWN = {"U2": "Ann Lee", "C2": "support"}

MRKDWN = {
    "Hi <@U1|ben>, <@U2> and <@W3>": "Hi @ben, @Ann Lee and @someone",
    "see <#C1|general>, <#C2|>, <#C3>": "see #general, #support, #some-channel",
    "<!here> <!channel|channel> <!everyone>": "@here @channel @everyone",
    "<!subteam^S1|@devs> <!subteam^S2>": "@devs @some-group",
    "<!date^1392734382^Posted {date}^https://example.com/|Feb 18>": "Feb 18 (https://example.com/)",
    "<!date^1392734382^{date}> <!date^x^{date}>": "2014-02-18 14:39 UTC a date",
    "<mailto:jo@acme.example|jo@acme.example> <mailto:jo@acme.example|Jo>": "jo@acme.example Jo (jo@acme.example)",
    "<tel:+4930123|+49 30 123> <tel:+4930123>": "+49 30 123 (+4930123) +4930123",
    "<https://a.example/x?a=1&amp;b=2|the *page*>": "the *page* (https://a.example/x?a=1&b=2)",
    "<https://a.example> <http://a.example/|a.example>": "https://a.example http://a.example/",
    "<https://a.example/_drafts_/|_drafts_>": "_drafts_ (https://a.example/_drafts_/)",
    "<slack://app?id=1|the app>": "the app (slack://app?id=1)",
    "R&amp;D &lt;b&gt; &amp;lt;": "R&D <b> &lt;",
    "*bold* _italic_ ~struck~ *_both_* _*both*_": "bold italic struck both both",
    "2*3*4 snake_case_name __init__ a * b * c ~/x ~/y": "2*3*4 snake_case_name __init__ a * b * c ~/x ~/y",
    "run `rm *.tmp *.log` now": "run rm *.tmp *.log now",
    "see:```\nprint(*a*)\n```it fails": "see:\nprint(*a*)\nit fails",
    "```not closed": "```not closed",
    ":tada: done": ":tada: done",
    "a < b > c <>": "a < b > c <>",
    "<@U1|*ben*> said *<https://a.example|yes>*": "@*ben* said yes (https://a.example)",
}


@pytest.mark.parametrize("mrkdwn", MRKDWN)
def test_mrkdwn_becomes_the_text_that_a_person_sees(mrkdwn: str) -> None:
    assert to_text(mrkdwn, Names(KNOWN)) == MRKDWN[mrkdwn]


def rich(*elements: Json, kind: str = "rich_text_section", **more: Any) -> Json:
    return {"type": kind, "elements": list(elements), **more}


def word(text: str, **more: Any) -> Json:
    return {"type": "text", "text": text, **more}


RICH = {
    "type": "rich_text",
    "elements": [
        rich(
            word("Hi "), {"type": "user", "user_id": "U2"}, word(" & "), {"type": "user", "user_id": "U9"}, word(" <b>"),
            {"type": "channel", "channel_id": "C2"}, word(" "), {"type": "usergroup", "usergroup_id": "S1"}, word(" "),
            {"type": "broadcast", "range": "here"}, {"type": "emoji", "name": "tada"}, word(" *no mark*", style={"bold": True}),
        ),
        rich(rich(word("one")), rich({"type": "link", "url": "https://a.example", "text": "two"}), kind="rich_text_list",
             style="ordered"),
        rich(rich(word("three")), kind="rich_text_list", style="bullet", indent=1),
        rich(word("said\ntwice"), kind="rich_text_quote"),
        rich(word("x = 1"), kind="rich_text_preformatted"),
        rich({"type": "date", "timestamp": 1392734382, "format": "{date}", "fallback": "Feb 18"}),
        rich({"type": "color", "value": "#FF0000"}, {"type": "new kind", "text": "!"}),
    ],
}  # fmt: skip
RICH_TEXT = """Hi @Ann Lee & @someone <b>#support @some-group @here:tada: *no mark*
1. one
2. two (https://a.example)
    • three
> said
> twice
x = 1
Feb 18
#FF0000!"""


def plain(text: str) -> Json:
    return {"type": "plain_text", "text": text}


def mrkdwn(text: str) -> Json:
    return {"type": "mrkdwn", "text": text}


MESSAGES: list[tuple[Json, str]] = [
    ({}, ""),
    ({"text": "as text", "blocks": []}, "as text"),
    ({"text": "for notifications", "blocks": [RICH]}, RICH_TEXT),
    (
        {
            "text": "",
            "blocks": [
                {"type": "header", "text": plain("Build <failed> &amp;")},
                {"type": "divider"},
                {"type": "section", "text": mrkdwn("*main* &amp; <@U2>"), "fields": [mrkdwn("a: 1"), plain("b: *2*")]},
                {"type": "context", "elements": [{"type": "image", "alt_text": "a face"}, mrkdwn("by <@U2>")]},
                {"type": "image", "image_url": "https://a.example/1.png", "alt_text": "a graph"},
                {"type": "actions", "elements": [{"type": "button", "text": plain("Retry"), "action_id": "a"},
                                                 {"type": "button", "text": plain("Log"), "url": "https://a.example/log"}]},
                {"type": "video", "title": plain("Film"), "title_url": "https://a.example/film", "description": plain("short")},
                {"type": "markdown", "text": "**as it is**"},
                {"type": "table", "rows": [[{"type": "raw_text", "text": "a"}, RICH["elements"] and
                                            {"type": "rich_text", "elements": [rich(word("b"))]}]]},
                {"type": "alert", "text": plain("Attention")},
                {"type": "card", "title": mrkdwn("Card"), "body": mrkdwn("of <#C2>"), "actions": [{"text": plain("no")}]},
            ],
        },
        "Build <failed> &amp;\nmain & @Ann Lee\na: 1\nb: *2*\na face by @Ann Lee\na graph\nLog (https://a.example/log)\n"
        "Film (https://a.example/film)\nshort\n**as it is**\na | b\nAttention\nCard\nof #support",
    ),
    (
        {"attachments": [{"fallback": "not seen", "pretext": "New *issue*", "author_name": "Jo", "title": "It &lt;fails&gt;",
                          "title_link": "https://a.example/1", "text": "since <!date^1392734382^{date}|Feb 18>",
                          "fields": [{"title": "Priority", "value": "High"}, {"value": "alone"}], "footer": "Tracker"}]},
        "New issue\nJo\nIt <fails> (https://a.example/1)\nsince Feb 18\nPriority: High\nalone\nTracker",
    ),
    ({"attachments": [{"fallback": "only <@U2>"}, {"blocks": [{"type": "section", "text": plain("in blocks")}]}]},
     "only @Ann Lee\n\nin blocks"),
    ({"text": "", "attachments": [{"message_blocks": [{"message": {"blocks": [RICH]}}], "text": "again"}]}, RICH_TEXT),
    (
        {"text": "", "files": [{"title": "Plan", "name": "p.pdf", "permalink": "https://a.example/p"}, {"name": "x.png"},
                               {"mode": "tombstone"}]},
        "Plan (https://a.example/p)\n\nx.png\n\nA file that is deleted or hidden",
    ),
    ({"text": "Look:", "files": [{"title": "Plan", "permalink": "https://a.example/p"}]}, "Look:\n\nPlan (https://a.example/p)"),
]  # fmt: skip


@pytest.mark.parametrize(("message", "expected"), MESSAGES, ids=range(len(MESSAGES)))
def test_a_message_has_the_text_of_its_blocks_attachments_and_files(message: Json, expected: str) -> None:
    assert describe(message, Names(KNOWN)) == expected


def test_the_labels_of_a_messages_text_name_whom_its_blocks_mention() -> None:
    names = Names()
    message = {"text": "<@U2|ann> <@U9>", "blocks": [RICH]}
    assert "Hi @ann & @someone" in describe(message, names)
    assert names.unknown == {"U9", "C2", "S1"}


TITLES = {
    "\n\n  First line  \nsecond": "First line",
    "12:30\n---\nThe site is down": "The site is down",
    "> • quoted": "quoted",
    "サーバーが落ちた": "サーバーが落ちた",
    "12345\n678": "12345",
    " \n": "",
    "x" * 300: "x" * 199 + "…",
}


@pytest.mark.parametrize("text", TITLES)
def test_the_title_is_the_first_line_with_letters(text: str) -> None:
    assert title(text) == TITLES[text]


def test_a_message_of_any_other_shape_is_no_error() -> None:
    odd: list[Any] = [None, 5, "text", [], {}, [None], [[]], ["a"], [{}], [{"type": 5}], {"type": "rich_text"}]
    for value in odd:
        assert isinstance(describe(value, Names()), str)
        for field in ("text", "blocks", "attachments", "files"):
            assert isinstance(describe({field: value}, Names()), str)
        for kind in ("rich_text", "section", "context", "actions", "image", "video", "table", "header", "new kind"):
            inner = ("text", "fields", "elements", "rows", "title", "alt_text", "description")
            assert isinstance(describe({"blocks": [{"type": kind} | dict.fromkeys(inner, value)]}, Names()), str)
        for kind in ("rich_text_section", "rich_text_list", "rich_text_quote", "new kind"):
            part = {"type": kind, "elements": value, "indent": value, "offset": value, "style": value}
            assert isinstance(describe({"blocks": [{"type": "rich_text", "elements": [part]}]}, Names()), str)
        for kind in ("text", "link", "user", "channel", "usergroup", "broadcast", "emoji", "date", "color"):
            element = {"type": kind} | dict.fromkeys(("text", "url", "user_id", "range", "timestamp", "fallback"), value)
            assert isinstance(describe({"blocks": [{"type": "rich_text", "elements": [rich(element)]}]}, Names()), str)
        fields = ("blocks", "message_blocks", "fields", "files", "title", "text", "fallback")
        assert isinstance(describe({"attachments": [dict.fromkeys(fields, value)]}, Names()), str)
