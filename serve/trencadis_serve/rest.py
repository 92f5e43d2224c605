"""The Open Inference Protocol (KServe v2) over HTTP, with its extension for binary tensors."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from trencadis_serve.budget import Budget
from trencadis_serve.decode import JSON_LENGTH, decode_body, decode_object, encode_reply
from trencadis_serve.describe import describe_model, describe_server
from trencadis_serve.errors import (
    ForbiddenError,
    InvalidRequestError,
    RequestError,
    SlowError,
    TooLargeError,
    UnreadableError,
)
from trencadis_serve.limits import Limits
from trencadis_serve.metrics import Metrics
from trencadis_serve.repository import Repository

__all__ = ["rest_application"]

Endpoint = Callable[[Request], Awaitable[Response]]

REPOSITORY_BYTES = 1 << 16
"""Bytes of a request that infers nothing."""


def rest_application(
    repository: Repository,
    limits: Limits,
    budget: Budget,
    metrics: Metrics,
    *,
    metrics_path: str,
) -> Starlette:
    """An ASGI application that answers requests with a repository's models.

    Parameters
    ----------
    repository : Repository
        The models.
    limits : Limits
        Limits of a request.
    budget : Budget
        Budget of all requests.
    metrics : Metrics
        Where requests are counted.
    metrics_path : str
        Path of the metrics.
    """
    rest = _Rest(repository, limits, budget, metrics)
    model = "/v2/models/{name}"
    version = model + "/versions/{version}"
    routes = [
        Route("/v2", _answered(rest.server), methods=["GET"]),
        Route("/v2/health/live", _answered(rest.live), methods=["GET"]),
        Route("/v2/health/ready", _answered(rest.all_ready), methods=["GET"]),
        Route("/v2/models", _answered(rest.models), methods=["GET"]),
        Route("/v2/repository/index", _answered(rest.index), methods=["GET", "POST"]),
        Route("/v2/repository/models/{name}/load", _answered(rest.load), methods=["POST"]),
        Route("/v2/repository/models/{name}/unload", _answered(rest.unload), methods=["POST"]),
        Route(metrics_path, _answered(rest.metrics), methods=["GET"]),
    ]
    for path in (model, version):
        routes += [
            Route(path, _answered(rest.model), methods=["GET"]),
            Route(path + "/ready", _answered(rest.model_ready), methods=["GET"]),
            Route(path + "/infer", _answered(rest.infer), methods=["POST"]),
        ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _refused})


async def _refused(request: Request, error: Exception) -> Response:
    """Paths and methods that are none, as the protocol has errors."""
    assert isinstance(error, HTTPException)
    text = {404: "there is no such path", 405: f"the method {request.method!r:.20} is not for it"}
    message = f"{request.url.path!r:.80}: {text.get(error.status_code, error.detail)}"
    return Response(
        orjson.dumps({"error": message}), error.status_code, error.headers, "application/json"
    )


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


def _answered(endpoint: Endpoint) -> Endpoint:
    """Errors of requests as the protocol has them."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except RequestError as error:
            return _json({"error": str(error)}, error.http)
        except ClientDisconnect:
            return Response(status_code=499)

    return answer


class _Reply(Response):
    """A reply that counts as held memory until its client has taken it."""

    held: ExitStack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. What ends the reply is sent when what was before it is on its way."""
        start = {"type": "http.response.start", "status": self.status_code}
        with self.held:
            await send({**start, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": self.body, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


@dataclass(frozen=True)
class _Rest:
    """The endpoints."""

    repository: Repository
    limits: Limits
    budget: Budget
    counters: Metrics

    async def server(self, request: Request) -> Response:
        return _json(describe_server())

    async def live(self, request: Request) -> Response:
        return _json({"live": True})

    async def all_ready(self, request: Request) -> Response:
        ready = self.repository.all_ready
        return _json({"ready": ready}, 200 if ready else 503)

    async def models(self, request: Request) -> Response:
        return _json({"models": self.repository.names})

    async def index(self, request: Request) -> Response:
        only_ready = (await self._message(request)).get("ready") is True
        rows = self.repository.index()
        return _json([row for row in rows if row["state"] == "READY" or not only_ready])

    async def load(self, request: Request) -> Response:
        message = await self._message(request, changes=True)
        if message.get("parameters"):
            raise InvalidRequestError(
                "models are loaded as the server was started: send no parameters"
            )
        await self.repository.load(request.path_params["name"])
        return _json({})

    async def unload(self, request: Request) -> Response:
        await self._message(request, changes=True)
        await self.repository.unload(request.path_params["name"])
        return _json({})

    async def metrics(self, request: Request) -> Response:
        return Response(self.counters.text(), media_type="text/plain; version=0.0.4")

    async def model(self, request: Request) -> Response:
        model = self.repository.get(*_named(request))
        return _json(describe_model(model, self.repository.versions(model.spec.name)))

    async def model_ready(self, request: Request) -> Response:
        name, version = _named(request)
        ready = self.repository.ready(name, version)
        return _json({"name": name, "ready": ready}, 200 if ready else 503)

    async def infer(self, request: Request) -> Response:
        name, version = _named(request)
        self.repository.get(name, version)  # what is unknown is refused before its body is read
        with ExitStack() as held:
            take = held.enter_context(self.budget.request())
            body = await self._body(request, take, self.limits.request_bytes)
            model = self.repository.get(name, version)  # it may have been loaded again meanwhile
            begun, status = time.monotonic(), "error"
            try:
                call = decode_body(body, request.headers.get(JSON_LENGTH))
                places = model.chosen(call.outputs)
                model.check_ready()
                outputs = await model.infer(call.feed)
                content, json_length = encode_reply(model, call, places, outputs)
                take(len(content))
                status = "ok"
            finally:
                seconds = time.monotonic() - begun
                self.counters.answered(model.spec.name, "rest", status, seconds)
            if json_length is None:
                reply = _Reply(content, media_type="application/json")
            else:
                headers = {JSON_LENGTH: str(json_length)}
                reply = _Reply(content, headers=headers, media_type="application/octet-stream")
            reply.held = held.pop_all()
            return reply

    async def _message(self, request: Request, *, changes: bool = False) -> dict[str, Any]:
        """The JSON of a request that infers nothing; an empty body is an empty object."""
        if changes and "Origin" in request.headers:
            # A page of the internet can make a browser send this to the reader's own machine.
            raise ForbiddenError("web pages may not load or unload models: send no header Origin")
        with self.budget.request() as take:
            body = await self._body(request, take, REPOSITORY_BYTES)
            return decode_object(body) if body else {}

    async def _body(self, request: Request, take: Callable[[int], None], most: int) -> bytes:
        """The whole body, unless it is too large or too slow; it is not read further then."""
        coding = request.headers.get("Content-Encoding", "identity")
        if coding != "identity":
            raise UnreadableError(f"Content-Encoding {coding!r:.20}: send requests as they are")
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.limits.timeout_s):
                async for part in request.stream():
                    size += len(part)
                    if size > most:
                        raise TooLargeError(f"a request may have {most} bytes; send several")
                    take(len(part))
                    parts.append(part)
        except TimeoutError:
            raise SlowError(
                f"the request did not arrive within {self.limits.timeout_s:g} seconds"
            ) from None
        return b"".join(parts)


def _named(request: Request) -> tuple[str, str | None]:
    return request.path_params["name"], request.path_params.get("version")
