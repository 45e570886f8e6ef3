"""A stand-in of a user pool's hosted page, as a server: it signs in the person that is set, and checks what Stint sends."""

import base64
import hashlib
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT = "console-client"


class HostedPage:
    """The page and the keys of one pool. `claims`: of the next ID token; `status`: of the next answer to an exchange."""

    def __init__(self) -> None:
        self.key, self.kid = rsa.generate_private_key(public_exponent=65537, key_size=2048), secrets.token_hex(4)
        self.claims: dict[str, Any] = {}
        self.status = 200
        self.codes: dict[str, dict[str, str]] = {}
        self.exchanges: list[dict[str, str]] = []
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                if parts.path == "/oauth2/authorize":
                    self.send_response(302)
                    self.send_header("Location", page.authorize(dict(parse_qsl(parts.query))))
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    self._send(200, {"keys": [page.public_key()]})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self._send(*page.exchange(dict(parse_qsl(body))))

            def _send(self, status: int, answer: Any) -> None:
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """The settings of a Stint whose users are in this pool."""
        return {
            "IDENTITY": "cognito",
            "COGNITO_USER_POOL_ID": "eu-central-1_AbCdEfGhI",
            "COGNITO_ENDPOINT_URL": "http://127.0.0.1:1",
            "COGNITO_LOGIN_URL": self.url,
            "CONSOLE_CLIENT_ID": CLIENT,
            "AUTH_CLIENT_IDS": f"{CLIENT},another-client",
            "AUTH_ISSUER": f"{self.url}/pool",
            "AUTH_JWKS_URL": f"{self.url}/keys",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }

    def sign_in(self, role: str | None = "internal_admin", **claims: Any) -> str:
        """Whom the page signs in from now on: a new user; their address."""
        email = f"{secrets.token_hex(5)}@example.com"
        self.claims = {"sub": str(uuid4()), "email": email, "name": email.partition("@")[0], "custom:userRole": role, **claims}
        return email

    def authorize(self, query: dict[str, str]) -> str:
        """Where the page leads after the person has signed in."""
        assert query["response_type"] == "code" and query["client_id"] == CLIENT, query
        assert query["code_challenge_method"] == "S256" and len(query["code_challenge"]) == 43, query
        assert set(query["scope"].split()) == {"openid", "email", "profile"}
        code = secrets.token_hex(8)
        self.codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def exchange(self, form: dict[str, str]) -> tuple[int, dict[str, str]]:
        """Status and body for a code: once, and with the verifier of its challenge."""
        self.exchanges.append(form)
        status, self.status = self.status, 200
        asked = self.codes.pop(form.get("code", ""), None)
        digest = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest()).decode().rstrip("=")
        expected = asked is not None and all(asked[name] == form[name] for name in ("redirect_uri", "client_id"))
        if status != 200:
            return status, {"error": "unavailable"}
        if asked is None or not expected or digest != asked["code_challenge"] or form["grant_type"] != "authorization_code":
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {
            "iss": f"{self.url}/pool", "aud": CLIENT, "token_use": "id", "iat": now, "auth_time": now, "exp": now + 600,
            "nonce": asked["nonce"],
        }  # fmt: skip
        claims |= self.claims
        return 200, {"id_token": jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": self.kid})}

    def public_key(self) -> dict[str, Any]:
        jwk = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {**jwk, "kid": self.kid, "use": "sig", "alg": "RS256"}
