"""The page of the stand-in for Slack: a field for commands, the open forms, and the posted messages."""

from html import escape

from ops.sandbox.slack.page_user import CHANNEL, PageUser
from ops.sandbox.slack.workspace import Json

_STYLE = """
body { font-family: system-ui, sans-serif; max-width: 60em; margin: 0 auto 3em; padding: 0 1em; line-height: 1.45; color: #222 }
.warning { background: #ffdd57; margin: 0 -1em 1.5em; padding: .8em 1em; font-weight: bold }
fieldset, .message { border: 1px solid #ddd; margin-bottom: 1em; padding: .8em 1em }
label { display: block; margin: .6em 0 } input, textarea, select { width: 100%; box-sizing: border-box; padding: .3em }
form.inline { display: inline } .error { color: #b00 }
"""


def page(person: PageUser, *, again: bool) -> str:
    """The whole page. With `again` it reloads itself once, because Stint answers a moment after an action."""
    workspace = person.workspace
    forms = "".join(_form(view) for view in workspace.views.values() if view.get("submit"))
    said = [*person.answers, *reversed(workspace.answers)]
    refresh = '<meta http-equiv="refresh" content="1;url=/">' if again else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sandbox, not Slack</title>{refresh}<style>{_STYLE}</style></head><body>
<p class="warning">This is a sandbox, not Slack. Nothing is sent from this machine.</p>
<form method="post" action="/do"><label>You <input name="email" value="{escape(person.email)}"></label>
<label>Channel <input name="channel" value="{CHANNEL}"></label>
<label>Command <input name="text" value="/task " autofocus></label><button name="do" value="type">Send</button>
(try <code>/task help</code>) <button name="do" value="home">Open App Home</button></form>
{forms}
{_home(person)}<h2>Visible only to you</h2>{"".join(map(_answer, said[:10])) or "<p>Nothing yet.</p>"}
<h2>Posted</h2>{"".join(map(_message, reversed(workspace.messages[-20:]))) or "<p>Nothing yet.</p>"}
</body></html>"""


def _form(view: Json) -> str:
    rows = "".join(_row(view, block) for block in view["blocks"] if block["type"] == "input")
    return f"""<form method="post" action="/do"><fieldset><legend>{escape(view["title"]["text"])}</legend>
<input type="hidden" name="view" value="{escape(view["id"])}">{rows}
<button name="do" value="send">{escape(view["submit"]["text"])}</button>
<button name="do" value="pick">Show this customer's pillars</button></fieldset></form>"""


def _row(view: Json, block: Json) -> str:
    element, name = block["element"], escape(block["element"]["action_id"])
    several = " ".join(option["value"] for option in element.get("initial_options", ()))
    initial = several or str(
        element.get("initial_value", element.get("initial_date_time", ""))
    )  # a time is in seconds since 1970
    error = (view.get("errors") or {}).get(block["block_id"])
    if element["type"] == "external_select":
        offered = {option["value"]: option["text"]["text"] for option in view.get("options", {}).get(name, [])}
        first = element.get("initial_option")
        offered = ({first["value"]: first["text"]["text"]} if first else {"": ""}) | offered
        options = "".join(f'<option value="{escape(value)}">{escape(text)}</option>' for value, text in offered.items())
        field = f'<select name="{name}">{options}</select>'
    elif element.get("multiline"):
        field = f'<textarea name="{name}" rows="4">{escape(initial)}</textarea>'
    else:
        field = f'<input name="{name}" value="{escape(initial)}">'
    wrong = f'<span class="error">{escape(error)}</span>' if error else ""
    return f"<label>{escape(block['label']['text'])} {field}{wrong}</label>"


def _home(person: PageUser) -> str:
    """The person's App Home, without its selects."""
    if not person.home:
        return ""
    content = _content("home", [_as_section(block) for block in person.home["blocks"]], "home")
    return f'<h2>App Home of {escape(person.email)}</h2><div class="message">{content}</div>'


def _as_section(block: Json) -> Json:
    """A header, or the small texts of a context, like the other texts."""
    if block["type"] == "context":
        return {"type": "section", "text": block["elements"][0]}
    return block | {"type": "section"} if block["type"] == "header" else block


def _answer(answer: Json) -> str:
    """An answer that only its user sees. Its buttons are pressed in the channel of the page."""
    if answer.get("blocks"):
        return _message({"channel": CHANNEL, "blocks": answer["blocks"]})
    return f'<p class="message">{escape(answer["text"])}</p>'


def _message(message: Json) -> str:
    content = _content(message["channel"], message.get("blocks") or [])
    return f'<div class="message"><code>{escape(message["channel"])}</code>{content}</div>'


def _content(channel: str, blocks: list[Json], where: str = "message") -> str:
    return "".join(map(lambda block: _block(channel, block, where), blocks))


def _block(channel: str, block: Json, where: str) -> str:
    text = f"<p>{escape(block['text']['text'])}</p>" if block["type"] == "section" else ""
    elements = [*block.get("elements", ()), *([block["accessory"]] if "accessory" in block else ())]
    buttons = [
        f"""<form class="inline" method="post" action="/do"><input type="hidden" name="do" value="press">
<input type="hidden" name="where" value="{where}">
<input type="hidden" name="action" value="{escape(button["action_id"])}">
<input type="hidden" name="channel" value="{escape(channel)}">
<button name="value" value="{escape(button["value"])}">{escape(button["text"]["text"])}</button></form> """
        for button in elements
        if "value" in button
    ]
    return text + "".join(buttons)
