"""What no page may do in a browser: write an error to the console, break its Content-Security-Policy, or send a request to
another site."""

from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Request, WebError

# The browser enforces the policy whether a page sees these events or not; each one becomes an error in the console.
_REPORT_VIOLATIONS = """
    addEventListener("securitypolicyviolation", (event) => console.error(
        `Content-Security-Policy: ${event.effectiveDirective} refuses ${event.blockedURI} ${event.sample}`));
"""
_WITHOUT_SERVER = ("about", "blob", "data")


class Guard:
    """Watches all pages of one context. `problems` has what was wrong."""

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.problems: list[str] = []
        self._origins = {origin}
        self._statuses: set[int] = set()
        context.add_init_script(_REPORT_VIOLATIONS)
        context.on("console", self._on_console)
        context.on("weberror", self._on_error)
        context.on("request", self._on_request)

    def expect_status(self, *statuses: int) -> None:
        """The test makes a request that is refused: the browser writes that to the console."""
        self._statuses.update(statuses)

    def allow_origin(self, url: str) -> None:
        """The test follows a link to this site, for example to give consent there."""
        self._origins.add(_origin(url))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        expected = [f"the server responded with a status of {status} " for status in self._statuses]
        expected += [f"Response Status Error Code {status} from " for status in self._statuses]  # of htmx
        if not any(text in message.text for text in expected):
            self.problems.append(f"{message.type} in the console: {message.text} ({message.location.get('url')})")

    def _on_error(self, error: WebError) -> None:
        self.problems.append(f"error of JavaScript: {error.error}")

    def _on_request(self, request: Request) -> None:
        if urlsplit(request.url).scheme not in _WITHOUT_SERVER and _origin(request.url) not in self._origins:
            self.problems.append(f"request to another site: {request.method} {request.url}")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
