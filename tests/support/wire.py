"""A tap on the wire between an API and Postgres: which statements were executed, and what came back."""

import socket
import struct
import threading
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class Wire:
    """A proxy on loopback that reads along: `statements` has the SQL of each execution, `answered` the bytes of all answers."""

    def __init__(self, database_url: str) -> None:
        where = conninfo_to_dict(database_url)
        self._host, self._port = str(where.get("host") or "127.0.0.1"), int(where.get("port") or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.database_url = make_conninfo(database_url, host="127.0.0.1", port=self._listener.getsockname()[1])
        self.statements: list[str] = []
        self.answered = bytearray()
        self._sockets: list[socket.socket] = []

    def clear(self) -> None:
        self.statements.clear()
        self.answered.clear()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for sock in [self._listener, *self._sockets]:
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = self._connect()
            self._sockets += [client, server]
            threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answers, args=(server, client), daemon=True).start()

    def _connect(self) -> socket.socket:
        if not self._host.startswith("/"):
            return socket.create_connection((self._host, self._port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{self._host}/.s.PGSQL.{self._port}")
        return server

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        prepared: dict[bytes, str] = {}
        buffer, started = b"", False
        while chunk := _read(client):
            buffer += chunk
            while True:
                start = 1 if started else 0  # only the first messages of a connection have no type
                if len(buffer) < start + 4:
                    break
                length = start + struct.unpack_from("!I", buffer, start)[0]
                if len(buffer) < length:
                    break
                message, buffer = buffer[:length], buffer[length:]
                if started:
                    self._note(message[:1], message[5:], prepared)
                elif struct.unpack_from("!I", message, 4)[0] >> 16 == 3:  # the start-up message; others ask for encryption
                    started = True
            _write(server, chunk)
        _end(client, server)

    def _note(self, kind: bytes, body: bytes, prepared: dict[bytes, str]) -> None:
        if kind == b"Q":
            self._add(body.rstrip(b"\0").decode())
        elif kind == b"P":
            name, sql, _ = body.split(b"\0", 2)
            prepared[name] = sql.decode()
        elif kind == b"B":
            _, name, _ = body.split(b"\0", 2)
            self._add(prepared[name])

    def _add(self, statement: str) -> None:
        # both come now and then, whatever requests do: schemas/postgres/liveness.py, api/heartbeat.py
        if statement != "SELECT 1" and "heartbeats" not in statement:
            self.statements.append(statement)

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        while chunk := _read(server):
            self.answered += chunk
            _write(client, chunk)
        _end(server, client)


def _read(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except OSError:
        return b""


def _write(sock: socket.socket, chunk: bytes) -> None:
    try:
        sock.sendall(chunk)
    except OSError:
        return


def _end(*sockets: socket.socket) -> None:
    for sock in sockets:
        sock.close()
