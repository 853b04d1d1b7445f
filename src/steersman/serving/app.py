"""The endpoints: which path does what, which mistake has which status. `create_app` opens no socket.

    GET  /health     the server is there (no token)         GET  /signature  what is taken, given, limited
    POST /act        observation, goal -> action            POST /imagine    observation, actions -> what to expect
    POST /encode     observation -> latent state
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from steersman.core import SteersmanError, UsageError
from steersman.serving.bodies import (
    JSON,
    SAFETENSORS,
    ActRequest,
    Body,
    EncodeRequest,
    ImagineRequest,
    Malformed,
    decode,
    encode,
)
from steersman.serving.desk import Busy, Desk, Late
from steersman.serving.gate import BUSY, App, Gate, Refused

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_LOG = logging.getLogger("steersman.serving")


def create_app(desk: Desk, token: str, hosts: Collection[str], origins: Collection[str] = ()) -> App:
    """The ASGI application.

    token    every path but /health asks for it
    hosts    values of the Host header that mean this server, e.g. {"127.0.0.1:8642", "localhost:8642"}
    origins  of pages in a browser that may call it; none unless you know why

    Raises:
        UsageError: the extra `serve` is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.responses import JSONResponse
        from starlette.routing import Route
    except ImportError as error:
        raise UsageError("Starlette", f"{error}", "install steersman[serve]") from error

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def signature(request: Request) -> Response:
        return JSONResponse(desk.signature())

    @asynccontextmanager
    async def lifespan(app: Any) -> Any:
        try:
            yield
        finally:
            desk.close()

    routes = [
        Route("/health", health, methods=["GET"]),
        Route("/signature", signature, methods=["GET"]),
        Route("/encode", _answering(desk, EncodeRequest, desk.encode), methods=["POST"]),
        Route("/act", _answering(desk, ActRequest, desk.act), methods=["POST"]),
        Route("/imagine", _answering(desk, ImagineRequest, desk.imagine), methods=["POST"]),
    ]
    async def refuse(request: Request, refused: Exception) -> Response:
        assert isinstance(refused, Refused)
        headers = {name.decode(): value.decode() for name, value in refused.headers}
        return JSONResponse({"error": refused.error}, refused.status, headers)

    inner = Starlette(routes=routes, lifespan=lifespan, exception_handlers={Refused: refuse})
    return Gate(inner, token, hosts, desk.limits, origins)


def _answering(desk: Desk, form: Any, work: Callable[[Body], Mapping[str, Any]]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        from starlette.responses import Response

        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (JSON, SAFETENSORS):
            raise Refused(415, f"expected Content-Type {JSON} or {SAFETENSORS}; got {kind[:80] or 'none'}")
        answer_kind = SAFETENSORS if SAFETENSORS in request.headers.get("accept", "") else JSON
        content = await request.body()
        try:
            answer = await desk.do(lambda: encode(work(decode(content, kind, form)), answer_kind))
        except Malformed as error:
            raise Refused(400, str(error)) from error
        except SteersmanError as error:
            raise Refused(422, str(error)) from error
        except Busy:
            raise Refused(503, "expected a free place in the queue; got none; try again", *BUSY) from None
        except Late:
            raise Refused(504, "expected an answer in time; got none; ask for a smaller budget") from None
        except Exception as error:  # a defect, of which the client learns the kind and nothing of where
            _LOG.exception("a request failed")
            raise Refused(500, f"a defect of the server, not of yours: {type(error).__name__}") from error
        return Response(answer, media_type=answer_kind)

    return endpoint
