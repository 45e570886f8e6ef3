"""The routes of the pages for the people on call."""

from litestar.handlers import HTTPRouteHandler

from api.console.operations import actions, dead_letters, edits, queues, replay_pages

OPERATION_ROUTES: list[tuple[str, str, HTTPRouteHandler]] = [
    ("GET", "/console/queues", queues.show_queues),
    ("GET", "/console/dead-letters", dead_letters.show_groups),
    ("GET", "/console/dead-letters/list", dead_letters.show_list),
    ("GET", "/console/dead-letters/replay", actions.show_replay),
    ("POST", "/console/dead-letters/replay", actions.replay),
    ("GET", "/console/dead-letters/discard", actions.show_discard),
    ("POST", "/console/dead-letters/discard", actions.discard),
    ("GET", "/console/dead-letters/restore", actions.show_restore),
    ("POST", "/console/dead-letters/restore", actions.restore),
    ("GET", "/console/dead-letters/replays", replay_pages.show_replays),
    ("GET", "/console/dead-letters/replays/{replay_id:str}", replay_pages.show_replay),
    ("POST", "/console/dead-letters/replays/{replay_id:str}/cancel", replay_pages.cancel_replay),
    ("GET", "/console/dead-letters/{letter_id:str}", dead_letters.show_message),
    ("GET", "/console/dead-letters/{letter_id:str}/edit", edits.show_edit),
    ("POST", "/console/dead-letters/{letter_id:str}/edit", edits.edit),
]
