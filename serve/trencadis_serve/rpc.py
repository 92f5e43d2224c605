"""The Open Inference Protocol over gRPC.

The messages are those of `tritonclient`, the protocol with Triton's extensions: clients of KServe,
Seldon and Triton speak it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from trencadis_format.errors import UserError
from trencadis_serve.budget import Budget
from trencadis_serve.describe import PLATFORM, describe_model, describe_server
from trencadis_serve.errors import InvalidRequestError, RequestError, SlowError
from trencadis_serve.limits import Limits
from trencadis_serve.metrics import Metrics
from trencadis_serve.model import ServedModel
from trencadis_serve.repository import Repository
from trencadis_serve.tensors import (
    DATATYPES,
    array_from_bytes,
    array_from_list,
    check_count,
    datatype_of,
)

__all__ = ["rpc_server"]

Array = npt.NDArray[Any]

pb: Any = service_pb2  # its classes are made when it is imported: checkers do not see them

SERVICE = "inference.GRPCInferenceService"

METHODS = (
    "ServerLive",
    "ServerReady",
    "ServerMetadata",
    "ModelReady",
    "ModelMetadata",
    "ModelConfig",
    "ModelInfer",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
)
"""Those that are answered; each has a message of its name and `Request`."""

CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
"""Field of a tensor's contents for each datatype; FP16 comes as raw bytes only."""


def rpc_server(
    repository: Repository,
    limits: Limits,
    budget: Budget,
    metrics: Metrics,
    *,
    host: str,
    port: int,
) -> tuple[grpc.aio.Server, int]:
    """A gRPC server that is bound to a port and not yet started, and the port.

    Raises
    ------
    UserError
        If the port cannot be bound.
    """
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", limits.request_bytes),
            ("grpc.max_send_message_length", limits.request_bytes),
            ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a rival
        ],
        maximum_concurrent_rpcs=limits.queue + 64,
    )
    server.add_generic_rpc_handlers((_handler(repository, limits, budget, metrics),))
    name = f"[{host}]" if ":" in host else host
    try:
        bound = server.add_insecure_port(f"{name}:{port}")
    except RuntimeError:
        bound = 0
    if not bound:
        raise UserError(f"--host {host} --grpc-port {port}: cannot listen there; choose another")
    return server, bound


def _handler(
    repository: Repository, limits: Limits, budget: Budget, metrics: Metrics
) -> grpc.GenericRpcHandler:
    """Every call of the protocol that is answered here; others are not implemented.

    To clients they are unary. Here they are streams, for only these let the server begin a call
    before its message has arrived, and so decide how many messages arrive at the same time.
    """
    calls = _Calls(repository, metrics)
    arrivals = _Arrivals(limits)
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            name: grpc.stream_unary_rpc_method_handler(
                _answered(arrivals, budget, getattr(calls, name), getattr(pb, f"{name}Request")),
                response_serializer=lambda reply: reply.SerializeToString(),
            )
            for name in METHODS
        },
    )


class _Arrivals:
    """Messages that arrive: so many at the same time, each in so many seconds.

    Those that arrive have no more bytes together than those that have arrived may have.
    """

    def __init__(self, limits: Limits) -> None:
        self._seconds = limits.timeout_s
        self._places = asyncio.Semaphore(limits.held_bytes // limits.request_bytes)

    async def one(self, messages: AsyncGenerator[bytes, None]) -> bytes:
        """The message of a call.

        Raises
        ------
        SlowError
            If it does not come in time.
        InvalidRequestError
            If none comes.
        """
        try:
            async with asyncio.timeout(self._seconds), aclosing(messages), self._places:
                return await anext(messages)
        except StopAsyncIteration:
            raise InvalidRequestError("the request has no message") from None
        except TimeoutError:
            raise SlowError(
                f"the request did not arrive within {self._seconds:g} seconds"
            ) from None


def _answered(
    arrivals: _Arrivals, budget: Budget, method: Callable[[Any], Awaitable[Any]], message: Any
) -> Callable[[Any, Any], Awaitable[Any]]:
    """Errors of requests as the protocol has them, those of messages that are none included."""

    async def answer(messages: Any, context: Any) -> Any:
        try:
            data = await arrivals.one(aiter(messages))
            with budget.request() as take:
                take(len(data))
                return await method(_decoded(message, data))
        except RequestError as error:
            await context.abort(getattr(grpc.StatusCode, error.rpc), str(error))

    return answer


def _decoded(message: Any, data: bytes) -> Any:
    """A message of a type, from its bytes."""
    try:
        return message.FromString(data)
    except DecodeError:
        raise InvalidRequestError(
            f"the request is no message of type {message.DESCRIPTOR.name}"
        ) from None


class _Calls:
    """The calls of the protocol; names are the protocol's."""

    def __init__(self, repository: Repository, metrics: Metrics) -> None:
        self._repository, self._metrics = repository, metrics

    async def ServerLive(self, request: Any) -> Any:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any) -> Any:
        return pb.ServerReadyResponse(ready=self._repository.all_ready)

    async def ServerMetadata(self, request: Any) -> Any:
        return pb.ServerMetadataResponse(**describe_server())

    async def ModelReady(self, request: Any) -> Any:
        ready = self._repository.ready(request.name, request.version)
        return pb.ModelReadyResponse(ready=ready)

    async def ModelMetadata(self, request: Any) -> Any:
        model = self._repository.get(request.name, request.version)
        described = describe_model(model, self._repository.versions(request.name))
        tensor = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(
            name=described["name"],
            versions=described["versions"],
            platform=described["platform"],
            inputs=[tensor(**entry) for entry in described["inputs"]],
            outputs=[tensor(**entry) for entry in described["outputs"]],
        )

    async def ModelConfig(self, request: Any) -> Any:
        # Its parameters are the place for what the metadata have no field for.
        model = self._repository.get(request.name, request.version)
        config = pb.ModelConfigResponse()
        config.config.name, config.config.platform = model.spec.name, PLATFORM
        for key, value in model.facts.items():
            config.config.parameters[key].string_value = value
        return config

    async def RepositoryIndex(self, request: Any) -> Any:
        rows = self._repository.index()
        entry = pb.RepositoryIndexResponse.ModelIndex
        return pb.RepositoryIndexResponse(
            models=[entry(**row) for row in rows if row["state"] == "READY" or not request.ready]
        )

    async def RepositoryModelLoad(self, request: Any) -> Any:
        if request.parameters:
            raise InvalidRequestError(
                "models are loaded as the server was started: send no parameters"
            )
        await self._repository.load(request.model_name)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any) -> Any:
        await self._repository.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    async def ModelInfer(self, request: Any) -> Any:
        model = self._repository.get(request.model_name, request.model_version)
        begun, status = time.monotonic(), "error"
        try:
            check_count("outputs", len(request.outputs))
            places = model.chosen([output.name for output in request.outputs])
            model.check_ready()
            outputs = await model.infer(_feed(request))
            status = "ok"
            return _reply(request, model, [(place, outputs[place]) for place in places])
        finally:
            seconds = time.monotonic() - begun
            self._metrics.answered(model.spec.name, "grpc", status, seconds)


def _feed(request: Any) -> dict[str, Array]:
    """The inputs of a request: all raw, or all as typed contents."""
    check_count("inputs", len(request.inputs))
    feed: dict[str, Array] = {}
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidRequestError(
            f"raw_input_contents has {len(raw)} tensors for {len(request.inputs)} inputs"
        )
    for number, entry in enumerate(request.inputs):
        if entry.name in feed:
            raise InvalidRequestError(f"input {entry.name!r:.60} is given twice")
        shape = list(entry.shape)
        if raw:
            if entry.HasField("contents"):
                raise InvalidRequestError(f"input {entry.name!r:.60} is both raw and typed")
            feed[entry.name] = array_from_bytes(entry.name, entry.datatype, shape, raw[number])
        else:
            field = CONTENTS.get(entry.datatype)
            values = list(getattr(entry.contents, field)) if field else []
            feed[entry.name] = array_from_list(entry.name, entry.datatype, shape, values)
    return feed


def _reply(request: Any, model: ServedModel, outputs: list[tuple[int, Array]]) -> Any:
    """The reply, raw or typed as the inputs were."""
    reply = pb.ModelInferResponse(
        model_name=model.spec.name, model_version=model.spec.version, id=request.id
    )
    for place, array in outputs:
        datatype = datatype_of(array.dtype)
        entry = reply.outputs.add(
            name=model.outputs[place].name, datatype=datatype, shape=list(array.shape)
        )
        field = CONTENTS.get(datatype)
        if request.raw_input_contents or field is None:
            raw = np.ascontiguousarray(array, DATATYPES[datatype])
            reply.raw_output_contents.append(raw.tobytes())
        else:
            getattr(entry.contents, field).extend(array.ravel().tolist())
    return reply
