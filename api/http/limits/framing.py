"""Where a request ends, as RFC 9112 says. uvicorn and httptools differ from it in ways that make the API and a proxy before it
disagree about that: then bytes of one client's body are answered as a request of another client.
"""

import re
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# a name, an IPv4 address or an IPv6 address in brackets, perhaps with a port; empty if the client knows no name
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]*)(?::[0-9]{0,5})?")
# of a request to change the protocol
_UPGRADE = (b"upgrade", b"http2-settings")
NOT_HTTP = "This is not a valid HTTP request."
WRONG_HOST = "The request cannot be read; check its headers: it needs one Host, a name or an address, perhaps with a port."
WRONG_CODING = "The request cannot be read; check its headers: its only Transfer-Encoding may be chunked, in HTTP/1.1."


class FramedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with these differences:

    - A request with the header Upgrade is read like any other. httptools takes its body for another request.
    - Trailers, which are headers after a chunked body, are ignored. uvicorn adds them to the headers of the request, so that a
      client could send X-Forwarded-For past a proxy.
    - A request with another transfer coding than chunked, or without exactly one valid Host, is not valid.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.invalid = NOT_HTTP  # what is wrong with the request, if it is not valid
        self._in_headers = False
        self.parser = _Parser(self)  # type: ignore[assignment]

    def on_message_begin(self) -> None:
        self._in_headers = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._check_headers()
        super().on_headers_complete()

    def head_without_upgrade(self) -> bytes:
        """The head of the request, without its wish for another protocol."""
        headers = b"".join(b"%b: %b\r\n" % header for header in self.headers if header[0] not in _UPGRADE)
        version = self.parser.get_http_version().encode()
        return b"%b %b HTTP/%b\r\n%b\r\n" % (self.parser.get_method(), self.url, version, headers)

    def _check_headers(self) -> None:
        """Raises ValueError for headers that are not valid."""
        version = self.parser.get_http_version()
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) > 1 or (not hosts and version == "1.1") or not all(_HOST.fullmatch(host) for host in hosts):
            self.invalid = WRONG_HOST
            raise ValueError(WRONG_HOST)
        codings = [value.strip().lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings and (codings != [b"chunked"] or version != "1.1"):
            self.invalid = WRONG_CODING
            raise ValueError(WRONG_CODING)


class _Parser:
    """httptools' parser, which never changes the protocol: the head of a request that asks for that is read again without its
    header Upgrade."""

    def __init__(self, protocol: FramedProtocol) -> None:
        self._protocol = protocol
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpRequestParser(_Callbacks(self._protocol, self))
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does, for pipelined requests

    def feed_data(self, data: bytes) -> None:
        """Raises HttpParserError if this is not valid HTTP."""
        while data:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as paused:
                if self.get_method() == b"CONNECT":
                    raise httptools.HttpParserError(NOT_HTTP) from None
                head = self._protocol.head_without_upgrade()
                self._reset()
                self._parser.feed_data(head)
                data = data[paused.args[0] :]

    def asks_for_upgrade(self) -> bool:
        """Whether the request asks for another protocol. httptools then reads no body."""
        return bool(self._parser.should_upgrade())

    def should_upgrade(self) -> bool:
        return False

    def should_keep_alive(self) -> bool:
        return bool(self._parser.should_keep_alive())

    def get_http_version(self) -> str:
        return str(self._parser.get_http_version())

    def get_method(self) -> bytes:
        return bytes(self._parser.get_method())


class _Callbacks:
    """The callbacks of a protocol, which are not told of the end of a head that is read again."""

    def __init__(self, protocol: FramedProtocol, parser: _Parser) -> None:
        self._protocol, self._parser = protocol, parser
        self.on_message_begin = protocol.on_message_begin
        self.on_url = protocol.on_url
        self.on_header = protocol.on_header
        self.on_body = protocol.on_body

    def on_headers_complete(self) -> None:
        if not self._parser.asks_for_upgrade():
            self._protocol.on_headers_complete()

    def on_message_complete(self) -> None:
        if not self._parser.asks_for_upgrade():
            self._protocol.on_message_complete()
