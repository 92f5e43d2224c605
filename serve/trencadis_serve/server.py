"""REST and gRPC servers over one repository of models, and their orderly end."""

import asyncio
import contextlib
import math
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import uvicorn

from trencadis_format.errors import UserError
from trencadis_serve.budget import Budget
from trencadis_serve.connections import Connection
from trencadis_serve.endpoints import Endpoints
from trencadis_serve.limits import Limits
from trencadis_serve.metrics import Metrics
from trencadis_serve.model import ModelSpec
from trencadis_serve.repository import Repository
from trencadis_serve.rest import rest_application
from trencadis_serve.rpc import rpc_server

__all__ = ["Running", "serve"]

BACKLOG = 2048

IDLE_S = 65
"""Seconds that a client may keep a connection waiting; balancers give up after 60."""


GRACE_S = 5.0
"""Seconds after `Limits.timeout_s`, when every request has an answer, in which these are sent."""


@dataclass
class Running:
    """A server that has started: its ports, and a way to end it."""

    port: int
    grpc_port: int | None
    stop: Callable[[], object] = field(repr=False)


def serve(
    specs: Sequence[ModelSpec],
    limits: Limits,
    endpoints: Endpoints,
    *,
    started: Callable[[Running], None] = lambda running: None,
) -> None:
    """Serve models until SIGTERM or SIGINT; what was accepted is finished first.

    Parameters
    ----------
    specs : sequence of ModelSpec
        What to serve.
    limits : Limits
        What is taken at most.
    endpoints : Endpoints
        Where to listen.
    started : callable
        Called when requests are answered.

    Raises
    ------
    UserError
        If a model cannot be opened, or a port not be bound.
    DeviceError
        If a device fails to open.
    """
    asyncio.run(_serve(specs, limits, endpoints, started))


async def _serve(
    specs: Sequence[ModelSpec],
    limits: Limits,
    endpoints: Endpoints,
    started: Callable[[Running], None],
) -> None:
    grace_s = limits.timeout_s + GRACE_S
    metrics = Metrics()
    budget = Budget(limits.held_bytes)
    repository = Repository(specs, limits, metrics.computed)
    metrics.watch(repository, budget)
    listener = _listener(endpoints.host, endpoints.port)
    try:
        rpc, grpc_port = None, None
        if endpoints.grpc_port is not None:
            rpc, grpc_port = rpc_server(
                repository,
                limits,
                budget,
                metrics,
                host=endpoints.host,
                port=endpoints.grpc_port,
            )
        try:
            await asyncio.to_thread(repository.open_all)
            application = rest_application(
                repository, limits, budget, metrics, metrics_path=endpoints.metrics_path
            )
            rest = _Rest(
                uvicorn.Config(
                    application,
                    log_config=None,
                    access_log=False,
                    lifespan="off",
                    http=Connection,
                    ws="none",
                    proxy_headers=False,
                    backlog=BACKLOG,
                    timeout_keep_alive=IDLE_S,
                    timeout_graceful_shutdown=math.ceil(grace_s),
                )
            )
            if rpc is not None:
                await rpc.start()
            ending = asyncio.Event()
            with _signals(ending):
                task = asyncio.create_task(rest.serve(sockets=[listener]))
                while not rest.started and not task.done():
                    await asyncio.sleep(0.01)
                loop = asyncio.get_running_loop()
                port = listener.getsockname()[1]
                started(Running(port, grpc_port, lambda: loop.call_soon_threadsafe(ending.set)))
                await ending.wait()
                rest.should_exit = True
                stops = [task]
                if rpc is not None:
                    stops.append(asyncio.ensure_future(rpc.stop(grace_s)))
                await asyncio.gather(*stops)
        finally:
            await asyncio.to_thread(repository.close)
    finally:
        listener.close()


class _Rest(uvicorn.Server):
    """Uvicorn, which leaves signals to us: they end both servers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing."""
        yield


@contextlib.contextmanager
def _signals(ending: asyncio.Event) -> Iterator[None]:
    """Set an event on SIGTERM and SIGINT; no more in a thread, which gets none."""
    loop = asyncio.get_running_loop()
    watched = []
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(ValueError, RuntimeError):
            loop.add_signal_handler(number, ending.set)
            watched.append(number)
    try:
        yield
    finally:
        for number in watched:
            loop.remove_signal_handler(number)


def _listener(host: str, port: int) -> socket.socket:
    """A listening socket."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise UserError(
            f"--host {host} --port {port}: cannot listen there: {error.strerror}; choose another"
        ) from None
    return listener
