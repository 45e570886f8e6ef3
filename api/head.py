"""HEAD, on any path that takes GET: the same answer without its body."""

from api.cors import Application, Message, Receive, Scope, Send


def with_head(app: Application) -> Application:
    """Asks the application for GET, and ends the answer where its body would begin, so that a stream is not kept open for
    nobody."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            return await app(scope, receive, send)

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        asked = {**scope, "method": "GET"}
        try:
            await app(asked, receive, send_head)
        finally:
            if "path_template" in asked:  # by which the request is measured
                scope["path_template"] = asked["path_template"]

    return answer
