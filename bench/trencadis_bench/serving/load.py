"""A load on a server, by locust: clients that each send the next request when one is answered.

Runs as a process of its own, since locust replaces Python's sockets when it is imported:
`python -m trencadis_bench.serving.load PLAN.json` prints what `Loaded` has as JSON.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gevent
import grpc
import grpc.experimental.gevent
import psutil
from locust import FastHttpUser, User, task
from locust.env import Environment

from trencadis_bench.serving.plan import Loaded, Plan, Sample

__all__ = ["main", "put_load"]

METHOD = "/inference.GRPCInferenceService/ModelInfer"

ALONE = [("grpc.use_local_subchannel_pool", 1)]
"""Every client has a connection of its own, as clients on other machines have."""

CHANNEL_LIMITS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

LOOK_S = 0.02
"""Seconds between two looks at what was answered."""

START_S = 300.0
"""Seconds in which all clients must have connected."""


@dataclass
class Record:
    """Events since it was cleared."""

    milliseconds: list[float]
    errors: list[str]

    def clear(self) -> None:
        """Begin anew."""
        self.milliseconds.clear()
        self.errors.clear()

    def note(self, response_time: float, exception: BaseException | None, **rest: object) -> None:
        """Take a request down; called by locust."""
        if exception is None:
            self.milliseconds.append(response_time)
        else:
            self.errors.append(str(exception)[:200])


def http_user(plan: Plan) -> type[FastHttpUser]:
    """Clients over HTTP, with binary tensors."""
    body: Any = plan.request.read_bytes()  # locust takes bytes, whatever its annotation says
    answer = plan.answer.read_bytes()
    headers = {"Inference-Header-Content-Length": str(plan.json_length)}

    class HttpUser(FastHttpUser):
        host = f"http://{plan.address}"
        network_timeout = connection_timeout = 60.0

        @task
        def infer(self) -> None:
            """Send the request, and compare its answer."""
            with self.client.post(
                plan.path, data=body, headers=headers, catch_response=True, name="infer"
            ) as reply:
                if reply.status_code == 200 and not (reply.content or b"").endswith(answer):
                    reply.failure("an answer that is not the session's")

    return HttpUser


def grpc_user(plan: Plan) -> type[User]:
    """Clients over gRPC, with raw tensors; messages are sent and compared as bytes."""
    body, answer = plan.request.read_bytes(), plan.answer.read_bytes()

    class GrpcUser(User):
        def on_start(self) -> None:
            """Connect."""
            self._channel = grpc.insecure_channel(plan.address, options=[*ALONE, *CHANNEL_LIMITS])
            self._call = self._channel.unary_unary(METHOD)

        def on_stop(self) -> None:
            """Disconnect."""
            self._channel.close()

        @task
        def infer(self) -> None:
            """Send the request, and compare its answer."""
            begun, error, size = time.perf_counter(), None, 0
            try:
                reply = self._call(body, timeout=60)
                size = len(reply)
                if not reply.endswith(answer):
                    error = ValueError("an answer that is not the session's")
            except grpc.RpcError as failure:
                error = failure
            self.environment.events.request.fire(
                request_type="grpc",
                name="infer",
                response_time=1000 * (time.perf_counter() - begun),
                response_length=size,
                exception=error,
                context={},
            )

    return GrpcUser


def put_load(plan: Plan) -> Loaded:
    """Send requests for as long as the plan says, after a start that does not count.

    Raises
    ------
    TimeoutError
        If not all clients start.
    """
    user = http_user(plan) if plan.protocol == "http" else grpc_user(plan)
    environment = Environment(user_classes=[user])
    record = Record([], [])
    environment.events.request.add_listener(record.note)
    server = psutil.Process(plan.server)
    runner = environment.create_local_runner()
    runner.start(plan.clients, spawn_rate=max(plan.clients, 1))
    limit = time.monotonic() + START_S
    while runner.user_count < plan.clients or not record.milliseconds:
        if time.monotonic() > limit or record.errors:
            raise TimeoutError(f"clients did not start: {record.errors[:1]}")
        gevent.sleep(LOOK_S)
    gevent.sleep(plan.warm_s)
    record.clear()
    samples = [_sample(server, record)]
    begun, own = time.perf_counter(), time.process_time()
    while not _done(plan, record, time.perf_counter() - begun):
        gevent.sleep(LOOK_S)
        if time.perf_counter() - begun > len(samples) * plan.sample_s:
            samples.append(_sample(server, record))
    seconds, own = time.perf_counter() - begun, time.process_time() - own
    samples.append(_sample(server, record))
    times, errors = sorted(record.milliseconds), list(record.errors)
    runner.quit()
    return Loaded(
        seconds=seconds,
        requests=len(times),
        errors=len(errors),
        first_error=errors[0] if errors else "",
        p50_ms=_at(times, 0.50),
        p99_ms=_at(times, 0.99),
        server_cpu_s=samples[-1].cpu_s - samples[0].cpu_s,
        client_cpu_s=own,
        samples=samples,
    )


def _done(plan: Plan, record: Record, seconds: float) -> bool:
    if plan.requests:
        return len(record.milliseconds) + len(record.errors) >= plan.requests
    return seconds >= plan.seconds and bool(record.milliseconds or record.errors)


def _sample(server: psutil.Process, record: Record) -> Sample:
    times = server.cpu_times()
    done = len(record.milliseconds) + len(record.errors)
    return Sample(done, times.user + times.system, server.memory_info().rss / 2**20)


def _at(ordered: list[float], share: float) -> float:
    """A percentile of ordered numbers; of none, nought."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main(plan: Path) -> None:
    """Put a load on a server and print what came of it."""
    grpc.experimental.gevent.init_gevent()
    print(json.dumps(asdict(put_load(Plan.read(plan)))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
