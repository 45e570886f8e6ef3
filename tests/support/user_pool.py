"""A Cognito user pool for tests: moto's server as a process, and proxies to it that can fail."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import boto3

from tests.support.installation import eventually, free_port

Mode = Literal["pass", "refuse", "hang", "lose answers"]
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
PASSWORD = "Correct-horse-9"


class Line:
    """A proxy on loopback. It can refuse connections, not answer, or forward a request and drop the response."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.mode: Mode = "pass"
        self.calls = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._carried: list[socket.socket] = []
        self._silent: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Closes all open connections, so that clients do not reuse them."""
        for sock in self._carried:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for sock in self._silent:
            sock.close()
        self._carried.clear()
        self._silent.clear()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.calls += 1
            if self.mode == "refuse":
                client.close()
                continue
            if self.mode == "hang":
                self._silent.append(client)
            else:
                server = socket.create_connection(("127.0.0.1", self._port))
                self._carried += [client, server]
                threading.Thread(target=self._carry, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._carry, args=(server, client, self.mode == "pass"), daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, target: socket.socket, arrives: bool) -> None:
        with source, contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                if arrives:
                    target.sendall(chunk)
            target.shutdown(socket.SHUT_WR)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


class UserPool:
    """One pool, whose users sign in with their e-mail address."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        with (directory / "moto.log").open("wb") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                env=os.environ | ENVIRONMENT, stdout=log, stderr=log,
            )  # fmt: skip
        self._direct = f"http://127.0.0.1:{port}"
        eventually(lambda: _listens(port), seconds=60, why="moto listens")
        self.client: Any = boto3.client(
            "cognito-idp", region_name="eu-central-1", endpoint_url=self._direct,
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip
        custom = [{"Name": name, "AttributeDataType": "String", "Mutable": True} for name in ("userRole", "customerId")]
        made = self.client.create_user_pool(PoolName="stint", UsernameAttributes=["email"], Schema=custom)
        self.id: str = made["UserPool"]["Id"]
        self.own_client, self.portal = (
            self.client.create_user_pool_client(UserPoolId=self.id, ClientName=name)["UserPoolClient"]["ClientId"]
            for name in ("stint", "portal")
        )
        self.line, self.keys = Line(port), Line(port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for line in (self.line, self.keys):
            line.close()
        self.client.close()
        self._server.terminate()
        self._server.wait(20)

    @property
    def environment(self) -> dict[str, str]:
        """The settings of a Stint whose users are in this pool."""
        return ENVIRONMENT | {
            "IDENTITY": "cognito",
            "COGNITO_USER_POOL_ID": self.id,
            "COGNITO_ENDPOINT_URL": self.line.url,
            "AUTH_JWKS_URL": f"{self.keys.url}/{self.id}/.well-known/jwks.json",
            "AUTH_CLIENT_IDS": f"{self.own_client},{self.portal}",
            "INTERNAL_CLIENT_IDS": self.own_client,
        }

    def add(self, role: str | None, customer_id: str | None = None, email: str | None = None) -> str:
        """Somebody whom the pool knows; their address."""
        email = email or f"{secrets.token_hex(5)}@example.com"
        custom = {"custom:userRole": role, "custom:customerId": customer_id, "name": email.partition("@")[0]}
        attributes = [{"Name": name, "Value": value} for name, value in custom.items() if value is not None]
        self.client.admin_create_user(UserPoolId=self.id, Username=email, UserAttributes=attributes)
        return email

    def tokens(self, email: str, *, portal: bool = False) -> dict[str, str]:
        """What the pool gives somebody who signs in: `IdToken` and `AccessToken`."""
        self.client.admin_set_user_password(UserPoolId=self.id, Username=email, Password=PASSWORD, Permanent=True)
        answer = self.client.admin_initiate_auth(
            UserPoolId=self.id, ClientId=self.portal if portal else self.own_client, AuthFlow="ADMIN_USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": email, "PASSWORD": PASSWORD},
        )  # fmt: skip
        found: dict[str, str] = answer["AuthenticationResult"]
        return found

    def users(self, email: str) -> list[dict[str, str]]:
        """The attributes of the user with that address in the pool."""
        found = self.client.list_users(UserPoolId=self.id, Filter=f'email = "{email}"')["Users"]
        return [{a["Name"]: a["Value"] for a in user["Attributes"]} | {"Username": user["Username"]} for user in found]
