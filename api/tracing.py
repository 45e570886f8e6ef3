"""A span for each request, if traces are on (schemas/tracing.py)."""

from api.http.cors import Application, Message, Receive, Scope, Send
from schemas import tracing


def with_tracing(app: Application) -> Application:
    """Continues the trace of the client, if its request names one. The span has the route's name, never the path."""
    if not tracing.is_on():
        return app

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        parent = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), None)
        with tracing.span(scope["method"], "server", parent=parent) as span:

            async def send_and_look(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        tracing.fail(span, str(message["status"]))
                await send(message)

            try:
                await app(scope, receive, send_and_look)
            finally:
                route = str(scope.get("path_template") or "unknown")
                span.update_name(f"{scope['method']} {route}")
                span.set_attributes({"http.request.method": scope["method"], "http.route": route})
                span.set_attribute("stint.request_id", scope.get("state", {}).get("request_id", ""))

    return wrapped
