"""Loads on servers of their own, each beside the bare session."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_bench.serving.messages import grpc_message, http_message
from trencadis_bench.serving.plan import Loaded, Plan
from trencadis_bench.serving.rows import Row, bare_cpu_ms, memory_slope
from trencadis_bench.serving.servers import Served, served
from trencadis_format.errors import FailureError
from trencadis_format.files import write_atomically
from trencadis_host import Session

__all__ = ["Case", "Ground", "measure", "memory"]

PROTOCOLS = ("http", "grpc")

MEMORY_CLIENTS = 8


@dataclass(frozen=True)
class Case:
    """A load: protocol, clients, inputs of a request."""

    protocol: str
    clients: int
    batch: int


@dataclass(frozen=True)
class Ground:
    """Common parts of all loads: session and inputs to compare with, folder, seconds."""

    image: Path
    device: str
    session: Session
    inputs: npt.NDArray[Any]
    folder: Path
    seconds: float

    def bare_ms(self) -> float:
        """CPU milliseconds of an inference by the bare session, now."""
        return bare_cpu_ms(self.session, self.inputs, self.seconds / 10)

    def load(self, server: Served, case: Case, requests: int = 0) -> Loaded:
        """Put a load on a server.

        Raises
        ------
        FailureError
            If the clients fail.
        """
        inputs = np.ascontiguousarray(self.inputs[: case.batch])
        over_http = case.protocol == "http"
        message = (
            http_message(self.session, inputs)
            if over_http
            else grpc_message(self.image.stem, self.session, inputs)
        )
        request, answer = self.folder / "request.bin", self.folder / "answer.bin"
        write_atomically(request, message.body)
        write_atomically(answer, message.answer)
        plan = Plan(
            protocol=case.protocol,
            address=server.http if over_http else server.grpc,
            path=f"/v2/models/{self.image.stem}/infer",
            server=server.process,
            request=request,
            answer=answer,
            json_length=message.json_length,
            clients=case.clients,
            seconds=self.seconds,
            requests=requests,
        )
        plan.write(self.folder / "plan.json")
        command = [
            sys.executable,
            "-m",
            "trencadis_bench.serving.load",
            str(self.folder / "plan.json"),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise FailureError(f"clients failed: {done.stderr.strip()[-300:]}")
        return Loaded.of_json(done.stdout)


def measure(
    ground: Ground, max_batch: int, cases: Sequence[Case], progress: Callable[[Row], None]
) -> list[Row]:
    """Loads on one server, one after the other."""
    rows = []
    arguments = [ground.image, f"--device={ground.device}", f"--max-batch={max_batch}"]
    with served(arguments) as server:
        before = ground.bare_ms()
        for case in cases:
            loaded = ground.load(server, case)
            after = ground.bare_ms()
            rows.append(
                Row.of(
                    loaded,
                    (before + after) / 2,
                    case.batch,
                    device=ground.device,
                    protocol=case.protocol,
                    clients=case.clients,
                    max_batch=max_batch,
                )
            )
            progress(rows[-1])
            before = after
    return rows


def memory(ground: Ground, requests: int) -> dict[str, Any]:
    """The server's memory over many requests of one input, half over each protocol."""
    first = last = 0.0
    errors, slopes = 0, []
    with served([ground.image, f"--device={ground.device}"]) as server:
        for protocol in PROTOCOLS:
            loaded = ground.load(server, Case(protocol, MEMORY_CLIENTS, 1), requests // 2)
            first = first or loaded.samples[0].rss_mib
            last = loaded.samples[-1].rss_mib
            errors += loaded.errors
            slopes.append(memory_slope(loaded))
    return {
        "requests": requests,
        "errors": errors,
        "rss_first_mib": first,
        "rss_last_mib": last,
        "mib_per_100000_requests": dict(zip(PROTOCOLS, slopes, strict=True)),
    }
