"""The routes of the pages of hours."""

from litestar.handlers import HTTPRouteHandler

from api.console.hours import approve, entries, timers, week

HOURS_ROUTES: list[tuple[str, str, HTTPRouteHandler]] = [
    ("GET", "/console/hours", week.show_hours),
    ("GET", "/console/hours/tasks", week.search_tasks),
    ("POST", "/console/hours/start", timers.start),
    ("POST", "/console/hours/stop", timers.stop),
    ("POST", "/console/hours/timer", timers.change_timer),
    ("POST", "/console/hours/discard", timers.discard),
    ("POST", "/console/hours/log", entries.log),
    ("GET", "/console/hours/entries/{entry_id:str}", entries.show_entry),
    ("POST", "/console/hours/entries/{entry_id:str}", entries.change_entry),
    ("POST", "/console/hours/entries/{entry_id:str}/delete", entries.delete_entry),
    ("GET", "/console/approve", approve.show_approve),
    ("POST", "/console/approve", approve.approve_seen),
    ("POST", "/console/approve/{bill_id:str}", approve.decide),
]
