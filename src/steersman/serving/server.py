"""The socket: loopback only, patience with slow clients limited, a graceful end. Knows no agent.

uvicorn alone waits for ever for the headers of a request; `_protocol` gives every connection deadlines, and closes the
connection that has waited longest when there are too many.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable, Collection
from typing import Any

from steersman.core.errors import StorageError, UsageError
from steersman.serving.app import create_app
from steersman.serving.desk import Desk
from steersman.serving.limits import Limits

GRACE = 5.0
"""Seconds that requests in work get when the server is told to end."""


class Server:
    """A bound loopback socket and the server behind it.

    >>> server = Server(Desk(agent), token)                                  # doctest: +SKIP
    >>> server.run()                                    # until Ctrl-C       # doctest: +SKIP

    `with server:` runs it in a thread instead, for tests and experiments.
    """

    def __init__(
        self, desk: Desk, token: str, *, host: str = "127.0.0.1", port: int = 0, origins: Collection[str] = (),
    ) -> None:
        """port 0: any free one.

        Raises:
            UsageError: no loopback address, or the extra `serve` is not installed.
            StorageError: the port is taken.
        """
        try:
            import uvicorn
        except ImportError as error:
            raise UsageError("uvicorn", f"{error}", "install steersman[serve]") from error
        self._socket = _bind(host, port)
        self.port: int = self._socket.getsockname()[1]
        name = f"[{host}]" if ":" in host else host
        self.address = f"http://{name}:{self.port}"
        hosts = {f"{name}:{self.port}", f"localhost:{self.port}"}
        config = uvicorn.Config(
            create_app(desk, token, hosts, origins), http=_protocol(desk.limits), ws="none", log_config=None,
            access_log=False, server_header=False, timeout_keep_alive=int(desk.limits.header_seconds) or 1,
            timeout_graceful_shutdown=int(GRACE), h11_max_incomplete_event_size=16 << 10, lifespan="on",
        )
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None

    def run(self, ready: Callable[[], None] | None = None) -> None:
        """Serve until SIGINT or SIGTERM; requests in work are finished first."""
        if ready is not None:
            ready()
        try:
            self._server.run(sockets=[self._socket])
        except KeyboardInterrupt:  # uvicorn raises the signal again once everything has ended
            pass
        finally:
            self._socket.close()

    def __enter__(self) -> Server:
        self._thread = threading.Thread(target=self.run, name="steersman-server", daemon=True)
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            threading.Event().wait(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join(GRACE + 10)

    def stop(self) -> None:
        """End gracefully: no new connections, requests in work are finished."""
        self._server.should_exit = True


def _bind(host: str, port: int) -> socket.socket:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        address = ipaddress.ip_address("0.0.0.0")
    if not address.is_loopback:
        raise UsageError("a loopback address such as 127.0.0.1", repr(host),
                         "let others in through an SSH tunnel or a reverse proxy with TLS")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((str(address), port))
        bound.listen(256)
    except (OSError, OverflowError) as error:
        bound.close()
        fix = "choose another --port, or 0 for a free one"
        raise StorageError(f"port {port} of {host}", f"{error}", fix) from error
    return bound


def _protocol(limits: Limits) -> type[Any]:
    """uvicorn's HTTP/1.1 protocol with deadlines."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Patient(H11Protocol):
        """One connection: a deadline for the headers, then one for the rest, then one for the next headers."""

        _timer: asyncio.TimerHandle | None = None
        _working = False

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait(limits.header_seconds)
            if len(self.connections) > limits.connections:
                idle = [other for other in self.connections if not getattr(other, "_working", True)]
                oldest: Any = min(idle, key=lambda other: other.since, default=self)  # type: ignore[union-attr]
                oldest.transport.abort()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            busy = self.cycle is not None and not self.cycle.response_complete
            if busy and not self._working:
                self._working = True
                self._wait(limits.total_seconds)

        def on_response_complete(self) -> None:
            self._working = False
            self._wait(limits.header_seconds)
            super().on_response_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def _wait(self, seconds: float) -> None:
            self._stop()
            self.since = self.loop.time()
            self._timer = self.loop.call_later(seconds, self.transport.abort)

        def _stop(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return Patient
