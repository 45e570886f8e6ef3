"""The console's files: scripts, style sheet, icon. Their URLs contain a hash of their content, so browsers keep them."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from litestar import Request, Response, get
from litestar.params import FromPath

from api.console.sessions import PUBLIC
from api.dependencies import ApiRequest
from schemas.errors import NotFound

FOLDER = Path(__file__).parent / "static"
PATH = "/console/static"
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
KEPT = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class StaticFile:
    """One file, and the same compressed. `digest`: the first 16 digits of its SHA-256, in hexadecimal."""

    content: bytes
    compressed: bytes
    media_type: str
    digest: str


@cache
def files() -> dict[str, StaticFile]:
    """All files by name, read once."""
    return {path.name: _read(path) for path in FOLDER.iterdir() if path.suffix in TYPES}


def _read(path: Path) -> StaticFile:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    return StaticFile(content, gzip.compress(content, 9, mtime=0), TYPES[path.suffix], digest)


def accepts_gzip(request: Request[Any, Any, Any]) -> bool:
    """Whether the client takes an answer that is compressed with gzip."""
    return "gzip" in request.headers.get("accept-encoding", "")


def static_url(name: str) -> str:
    """The URL of the file of that name."""
    return f"{PATH}/{files()[name].digest}/{name}"


@get("/console/static/{digest:str}/{name:str}", opt=PUBLIC)
async def send_file(request: ApiRequest, digest: FromPath[str], name: FromPath[str]) -> Response[Any]:
    """The file. One whose hash is of another version of Stint, which runs beside this one during an upgrade, is not kept."""
    file = files().get(name)
    if file is None:
        raise NotFound("There is no such file.")
    tag = f'"{file.digest}"'
    headers = {"ETag": tag, "Cache-Control": KEPT if digest == file.digest else "no-cache", "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == tag:
        return Response(b"", status_code=304, headers=headers)
    if not accepts_gzip(request):
        return Response(file.content, media_type=file.media_type, headers=headers)
    return Response(file.compressed, media_type=file.media_type, headers=headers | {"Content-Encoding": "gzip"})
