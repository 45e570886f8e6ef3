"""The page of the stand-in for Xero: the time entries that have arrived."""

from html import escape

from ops.sandbox.xero.store import Json, Store

_REFRESH_SECONDS = 3
_STYLE = """
body { font-family: system-ui, sans-serif; max-width: 70em; margin: 0 auto 3em; padding: 0 1em; line-height: 1.45; color: #222 }
.warning { background: #ffdd57; margin: 0 -1em 1.5em; padding: .8em 1em; font-weight: bold }
table { border-collapse: collapse; width: 100%; margin-bottom: 2em }
th, td { text-align: left; padding: .35em .8em .35em 0; border-bottom: 1px solid #ddd; vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums }
code { font-size: .85em; color: #555 }
"""


def page(store: Store) -> str:
    """The whole page, with the newest entries first. It reloads itself."""
    entries = sorted(store.entries.values(), key=lambda entry: str(entry["dateEnteredUtc"]), reverse=True)
    arrived = "".join(_entry_row(store, entry) for entry in entries)
    none = (
        "<tr><td colspan=7>None yet: approve a time bill whose customer and pillar are mapped to a project and its task.</tr>"
    )
    projects = "".join(_task_row(store, task) for task in store.tasks.values())
    connected = "connected" if store.connections else "not connected"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sandbox, not Xero</title>
<meta http-equiv="refresh" content="{_REFRESH_SECONDS}"><style>{_STYLE}</style></head><body>
<p class="warning">This is a sandbox, not Xero. Nothing is sent from this machine.</p>
<h1>Time entries that have arrived</h1>
<p>Stint is {connected}; {len(entries)} entries, {sum(entry["duration"] for entry in entries)} minutes.</p>
<table><tr><th>Day<th>Who<th>Project<th>Task<th>Minutes<th>Description<th>Status</tr>{arrived or none}</table>
<h1>Projects and tasks</h1>
<table><tr><th>Project<th>Task<th>Charge<th>Minutes</tr>{projects}</table>
</body></html>"""


def _entry_row(store: Store, entry: Json) -> str:
    cells = (
        entry["dateUtc"][:10],
        store.users[entry["userId"]]["name"],
        store.projects[entry["projectId"]]["name"],
        store.tasks[entry["taskId"]]["name"],
    )
    texts = "".join(f"<td>{escape(str(cell))}</td>" for cell in cells)
    return (
        f'<tr>{texts}<td class="number">{entry["duration"]}</td>'
        f"<td>{escape(entry['description'] or '')}</td><td>{entry['status']}</td></tr>"
    )


def _task_row(store: Store, task: Json) -> str:
    project = store.projects[task["projectId"]]
    minutes = store.minutes({"taskId": task["taskId"]})
    return (
        f"<tr><td>{escape(project['name'])}<br><code>{project['projectId']}</code></td>"
        f"<td>{escape(task['name'])}<br><code>{task['taskId']}</code></td>"
        f'<td>{task["chargeType"]}</td><td class="number">{minutes}</td></tr>'
    )
