"""What is shown in Slack as plain dicts is what the models of Slack's SDK make of the same values."""

from uuid import UUID

from slack_sdk.models.blocks import (
    ActionsBlock,
    Block,
    ButtonElement,
    ExternalDataSelectElement,
    MarkdownTextObject,
    PlainTextObject,
    SectionBlock,
)

from schemas.slack import views
from schemas.slack.views import TaskSummary

ONE = UUID("6f2a0c5e-6f0f-4d3b-9c55-0d5b6f1f2a11")


def plain(text: str) -> PlainTextObject:
    return PlainTextObject(text=text, emoji=False)


def test_a_list_and_a_picker_are_those_of_the_sdk() -> None:
    task = TaskSummary(ONE, "Fix <it> & " + "x" * 4_000, "Acme & Co", url="https://app.example/tasks/1")
    text = f"<https://app.example/tasks/1|Fix &lt;it&gt; &amp; {'x' * 4_000}>\nAcme &amp; Co"[:3_000]
    button = ButtonElement(text=plain("Start timer"), action_id=views.START_TIMER, value=str(ONE))
    blocks: list[Block] = [
        SectionBlock(text=MarkdownTextObject(text="Open: 1", verbatim=True)),
        SectionBlock(text=MarkdownTextObject(text=text, verbatim=True), accessory=button),
    ]
    assert views.task_list([task], heading="Open: 1") == [block.to_dict() for block in blocks]

    select = ExternalDataSelectElement(action_id=views.TASK, placeholder=plain("Which task?"), min_query_length=0)
    blocks = [SectionBlock(text=plain("Where?")), ActionsBlock(elements=[select])]
    assert views.task_picker("Where?") == [block.to_dict() for block in blocks]
