"""What the management API of RabbitMQ tells of its cluster: AMQP tells neither of nodes nor of the replicas of queues.

RABBITMQ_API_URL is one URL, or a list of URLs with commas between them: the nodes of one cluster. They are asked in turn until
one answers. For TLS, `cacertfile` in a URL names the certificate authority, as in AMQP_URL.
"""

import asyncio
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from pydantic import BaseModel, TypeAdapter, ValidationError

from schemas.servers.error_words import address, in_words

if TYPE_CHECKING:
    import httpx2

SECONDS = 4.0  # for all requests to one node
MOST_BYTES = 1_000_000  # of one answer
MOST_NAMED = 5  # queues in one text
REPLICAS = 3  # of a quorum queue, unless the cluster has fewer nodes: what RabbitMQ makes when a queue is declared
# what each problem is reported as, like the name of a server
API, PARTITION, NODE, REPLICA = (
    "management API of RabbitMQ", "partition of RabbitMQ", "node of RabbitMQ", "replica of RabbitMQ",
)  # fmt: skip
_QUEUES = "?disable_stats=true&enable_queue_totals=true&columns=name,type,members,online"  # as they are now: others are old


class Node(BaseModel):
    """A member of the cluster. `partitions`: the nodes that it has lost, and does not take back without a person."""

    name: str
    running: bool
    partitions: list[str] = []


class Queue(BaseModel):
    """A queue. Of a quorum queue: the nodes that have a replica, and those whose replica can be used."""

    name: str
    type: str = ""
    members: list[str] | None = None
    online: list[str] | None = None


_NODES_READ, _QUEUES_READ = TypeAdapter(list[Node]), TypeAdapter(list[Queue])


class Unusable(Exception):
    """The API does not tell. `code`: as in schemas/rabbitmq/problems.py, or `unusable`."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(details)
        self.code = code


async def problems(urls: str, virtual_host: str) -> dict[str, str]:
    """What is wrong with the cluster, and with the quorum queues of that virtual host: by name, as `code: details`. It takes
    at most SECONDS for each URL."""
    failed: list[Unusable] = []
    for url in filter(None, map(str.strip, urls.split(","))):
        try:
            async with asyncio.timeout(SECONDS):
                return found(*await _read(url, virtual_host))
        except TimeoutError:
            failed.append(Unusable("unreachable", f"{_place(url)}: no answer in time"))
        except Unusable as error:
            failed.append(Unusable(error.code, f"{_place(url)}: {error}"))
    return {API: f"{failed[-1].code}: {'; '.join(map(str, failed))}"} if failed else {}


def found(nodes: list[Node], queues: list[Queue]) -> dict[str, str]:
    """The problems of a cluster with these nodes and queues, as `problems` returns them."""
    running = {node.name for node in nodes if node.running}
    found: dict[str, str] = {}
    if apart := [f"{node.name} without {', '.join(sorted(node.partitions))}" for node in nodes if node.partitions]:
        found[PARTITION] = f"apart: {'; '.join(apart)}"
    if down := sorted({node.name for node in nodes} - running):
        found[NODE] = f"down: {', '.join(down)}"
    members = {
        queue.name: set(queue.members or ()) & {node.name for node in nodes} for queue in queues if queue.type == "quorum"
    }
    online = {queue.name: set(queue.online or ()) for queue in queues}
    few = {queue: having for queue, having in members.items() if len(having) < min(REPLICAS, len(nodes))}
    # a replica on a node that is down is told by the node
    offline = {queue: gone for queue, having in members.items() if (gone := having & running - online[queue])}
    if few:
        found[REPLICA] = f"missing: {_listed('is on', few)} alone"
    elif offline:
        found[REPLICA] = f"offline: {_listed('on', offline)}"
    return found


def _listed(words: str, nodes: dict[str, set[str]]) -> str:
    """The queues with their nodes; the words are between both."""
    each = [f"{queue} {words} {', '.join(sorted(names)) or 'no node'}" for queue, names in sorted(nodes.items())]
    return "; ".join(each[:MOST_NAMED] + ([f"and {len(each) - MOST_NAMED} more queues"] if len(each) > MOST_NAMED else []))


async def _read(url: str, virtual_host: str) -> tuple[list[Node], list[Queue]]:
    import httpx2  # importing it takes a quarter of a second

    parts = urlsplit(url)
    try:
        files = parse_qs(parts.query).get("cacertfile")
        tls = ssl.create_default_context(cafile=files[0] if files else None)
        login = (unquote(parts.username or ""), unquote(parts.password or ""))
        base = f"{parts.scheme}://{address(parts.hostname, parts.port)}{parts.path.rstrip('/')}"
        plain = {"Accept-Encoding": "identity"}
        async with httpx2.AsyncClient(auth=login, headers=plain, verify=tls, timeout=SECONDS, trust_env=False) as client:
            nodes = await _get(client, f"{base}/api/nodes?columns=name,running,partitions")
            queues = await _get(client, f"{base}/api/queues/{quote(virtual_host, safe='')}{_QUEUES}")
        return _NODES_READ.validate_json(nodes), _QUEUES_READ.validate_json(queues)
    except ValidationError:
        raise Unusable("unusable", "its answer is not that of RabbitMQ's management API") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise Unusable("unreachable", in_words(error)) from None


async def _get(client: "httpx2.AsyncClient", url: str) -> bytes:
    body = bytearray()
    async with client.stream("GET", url) as answer:
        if answer.status_code in (401, 403):
            raise Unusable(
                "refused", "it refuses the password, or the user lacks the tag monitoring or a permission at the virtual host"
            )
        if answer.status_code != 200:
            raise Unusable("unusable", f"it answers {answer.status_code}")
        async for part in answer.aiter_raw():
            body += part
            if len(body) > MOST_BYTES:
                raise Unusable("unusable", f"its answer is longer than {MOST_BYTES:,} bytes")
    return bytes(body)


def _place(url: str) -> str:
    """The address of a URL, without its password."""
    parts: Any = urlsplit(url)
    return address(parts.hostname, parts.port)
