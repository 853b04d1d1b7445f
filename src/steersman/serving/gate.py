"""What every request passes before its body is parsed: host, origin, token, size, time. Pure ASGI; knows no agent.

A page in a browser cannot pass: its requests carry an Origin, or another Host once a name was rebound to this machine.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from typing import Any

import msgspec

from steersman.serving.limits import Limits

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADERS = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
OPEN_PATHS = frozenset({"/health"})
"""Need no token, and say nothing but that the server is there."""


class Refused(Exception):
    """A request that is not let in: status, and the sentence that the client gets."""

    def __init__(self, status: int, error: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(error)
        self.status, self.error, self.headers = status, error, headers


class Gate:
    """ASGI middleware: lets in who may, and hands `app` the whole body at once."""

    def __init__(
        self, app: App, token: str, hosts: Iterable[str], limits: Limits, origins: Collection[str] = (),
    ) -> None:
        """hosts: values of the Host header that mean this server; origins: of pages that may call it (none)."""
        self.app, self.limits = app, limits
        self._token = token.encode()
        self._hosts = frozenset(host.lower().encode() for host in hosts)
        self._origins = frozenset(origin.encode() for origin in origins)
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        held = 0
        try:
            self._admit(scope)
            body = bytearray()
            if scope["method"] == "POST":
                self._announced(scope)
                async with _deadline(self.limits.body_seconds):
                    while True:
                        message = await receive()
                        if message["type"] == "http.disconnect":
                            return
                        piece = message.get("body", b"")
                        self._held, held = self._held + len(piece), held + len(piece)
                        body += piece
                        if len(body) > self.limits.body_bytes:
                            raise Refused(413, f"expected at most {self.limits.body_bytes} bytes", CLOSE)
                        if self._held > self.limits.held_bytes:
                            raise Refused(503, "expected room for this body; got too many at once; try again", *BUSY)
                        if not message.get("more_body", False):
                            break
            await self.app(scope, _whole(bytes(body), receive), _dressed(send))
        except Refused as refused:
            await respond(send, refused)
        finally:
            self._held -= held

    def _admit(self, scope: Scope) -> None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        found = [value for name, value in headers if name == b"host"]
        if len(found) != 1 or found[0].strip().lower() not in self._hosts:
            raise Refused(421, "expected this server's own address in the Host header; use the address that it printed")
        if any(name == b"origin" and value not in self._origins for name, value in headers):
            raise Refused(403, "expected a program; got a page in a browser (Origin header)")
        if any(name == b"sec-fetch-site" and value not in (b"none", b"same-origin") for name, value in headers):
            raise Refused(403, "expected a program; got a page in a browser (Sec-Fetch-Site header)")
        if scope["path"] in OPEN_PATHS:
            return
        given = [value for name, value in headers if name == b"authorization"]
        scheme, _, token = (given[0] if len(given) == 1 else b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
            raise Refused(401, "expected 'Authorization: Bearer TOKEN' with the token that was printed at the start",
                          (b"www-authenticate", b"Bearer"))

    def _announced(self, scope: Scope) -> None:
        for name, value in scope["headers"]:
            if name == b"content-length" and int(value) > self.limits.body_bytes:
                raise Refused(413, f"expected at most {self.limits.body_bytes} bytes; got {int(value)}", CLOSE)


CLOSE = (b"connection", b"close")
BUSY = ((b"retry-after", b"1"), CLOSE)


def _deadline(seconds: float) -> Any:
    return _Deadline(seconds)


class _Deadline:
    """`asyncio.timeout` whose end is a refusal."""

    def __init__(self, seconds: float) -> None:
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        try:
            await self._timeout.__aexit__(*error)
        except TimeoutError:
            raise Refused(408, "expected the whole body in time; send it at once", CLOSE) from None


def _whole(body: bytes, receive: Receive) -> Receive:
    """A body that is there already; afterwards, whatever the connection says."""
    sent = False

    async def from_memory() -> MutableMapping[str, Any]:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return from_memory


def _dressed(send: Send) -> Send:
    async def with_headers(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *HEADERS]
        await send(message)

    return with_headers


async def respond(send: Send, refused: Refused) -> None:
    """The refusal as JSON."""
    body = msgspec.json.encode({"error": refused.error})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *refused.headers]
    await send({"type": "http.response.start", "status": refused.status, "headers": [*headers, *HEADERS]})
    await send({"type": "http.response.body", "body": body})
