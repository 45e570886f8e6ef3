"""HEAD on each path that has GET: the same response without its body."""

from api.http.cors import Application, Message, Receive, Scope, Send


def with_head(app: Application) -> Application:
    """Runs the request as GET, and ends the response before its body, so that a stream does not stay open."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            return await app(scope, receive, send)

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        get_scope = {**scope, "method": "GET"}
        try:
            await app(get_scope, receive, send_head)
        finally:
            if "path_template" in get_scope:  # the metrics need it
                scope["path_template"] = get_scope["path_template"]

    return wrapped
