"""What `./stint up` prints when it is ready: how to reach everything."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ops.state import CHECKOUT, DEFAULT
from schemas.setting_values import amqp_urls

ADMIN = "admin@example.com"  # the first one of a new installation


@dataclass(frozen=True)
class Summary:
    """What is known of a running `up` beside its environment. `link`: one that signs the admin in; None where it must not be
    printed. `mailbox`: the directory in which mails are caught."""

    state: Path
    url: str
    seconds: float
    has_admin: bool
    link: str | None
    own_postgres: bool
    own_rabbitmq: bool
    mailbox: Path | None
    xero_sandbox: str | None
    slack_sandbox: str | None

    def text(self) -> str:
        return f"""
Stint is ready after {self.seconds:.1f} s

  Console   {self._console()}
  API       {self.url}
  Docs      {self.url}/docs
  State     {self.state}
  Postgres  {_where(os.environ["DATABASE_URL"], own=self.own_postgres)}
  RabbitMQ  {", ".join(_where(url, own=self.own_rabbitmq) for url in amqp_urls(os.environ["AMQP_URL"]))}
  Mail      {f"caught as files in {self.mailbox}" if self.mailbox else _where(os.environ["SMTP_URL"])}
  Xero      {self._xero()}
  Slack     {self._slack()}

  Try it:   {self._call()}
  Stop it:  Ctrl-C, or ./stint stop{self._option}
"""

    def _console(self) -> str:
        from schemas.settings import settings

        if settings().uses_external_identity:
            return f"{self.url}/console; users sign in at the user pool"
        again = f"./stint console {ADMIN if self.has_admin else 'you@example.com'}{self._option}"
        if not self.has_admin:
            return f"{self.url}/console ({ADMIN} was removed, or is no admin any more; {again})"
        if self.link is None:
            return f"{self.url}/console\n            (a link that signs {ADMIN}, an admin, in: {again})"
        return f"{self.link}\n            (signs in {ADMIN}, an admin, once within ten minutes; again: {again})"

    def _call(self) -> str:
        if not self.has_admin:
            return f"curl {self.url}/health/ready"
        stint = shlex.quote(str(CHECKOUT / "stint"))
        token = f"{stint} token --role internal_admin --email {ADMIN}{self._option}"
        return f'curl -H "Authorization: Bearer $({token})" {self.url}/api/me'

    @property
    def _option(self) -> str:
        """For other commands: the state, unless it is where they look for it."""
        return "" if self.state == DEFAULT else f" --state {shlex.quote(str(self.state))}"

    def _xero(self) -> str:
        if self.xero_sandbox:
            return f"a sandbox: nothing is sent to Xero, {self.xero_sandbox} shows what would have been"
        if os.environ.get("XERO_CLIENT_ID"):
            return "yours, once an admin connects it"
        return "not set up: docs/xero.md; --sandbox has a stand-in"

    def _slack(self) -> str:
        if self.slack_sandbox:
            return f"a sandbox: type /task at {self.slack_sandbox}"
        return "yours" if os.environ.get("SLACK_BOT_TOKEN") else "not set up: docs/slack.md; --sandbox has a stand-in"


def _where(url: str, *, own: bool = False) -> str:
    """A server's address without its password."""
    parts = urlsplit(url)
    if own and parts.query:
        return f"private, psql '{url}'"
    place = parts.hostname or "localhost"
    place = f"{place}:{parts.port}" if parts.port else place
    return f"private, {place}" if own else f"yours, {place}{parts.path}"
