"""Rows of `serving.json`: what a load came to, beside the bare session."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_bench.serving.plan import Loaded
from trencadis_host import Session

__all__ = ["Row", "bare_cpu_ms", "memory_slope"]


def bare_cpu_ms(session: Session, inputs: npt.NDArray[Any], seconds: float) -> float:
    """CPU milliseconds of an inference of a session that is run for some CPU seconds."""
    feed = {session.get_inputs()[0].name: inputs}
    session.run(None, feed)
    begun, count = time.process_time(), 0
    while (taken := time.process_time() - begun) < seconds:
        session.run(None, feed)
        count += len(inputs)
    return 1000 * taken / count


@dataclass(frozen=True, kw_only=True)
class Row:
    """A load and what came of it.

    Attributes
    ----------
    device, protocol : str
        What computed, and how it was asked.
    clients : int
        Number of clients that asked at the same time.
    batch : int
        Inputs of a request.
    max_batch : int
        Inputs that the server computed together at most.
    requests_per_s, inferences_per_s, p50_ms, p99_ms, errors
        Requests and inferences per second, latencies and errors, by the clock.
    share_of_session : float
        Inferences per second, of those that the bare session computes per second of its only
        thread's CPU time, on the largest batch. Other jobs of the machine lower it.
    share_by_cpu : float
        CPU time of the bare session, of the server's. Other jobs leave it as it is.
    overhead_cpu_ms : float
        CPU milliseconds of the server per request, without the bare session's.
    client_cpu_ms : float
        CPU milliseconds of the clients per request.
    cores : float
        Processors that server and clients had on average.
    """

    device: str
    protocol: str
    clients: int
    batch: int
    max_batch: int
    requests: int
    requests_per_s: float
    inferences_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int
    share_of_session: float
    share_by_cpu: float
    overhead_cpu_ms: float
    client_cpu_ms: float
    cores: float
    rss_mib: float

    @classmethod
    def of(cls, loaded: Loaded, bare_ms: float, batch: int, **what: Any) -> "Row":
        """Make a row of a load's result and an inference's time; `what` are other attributes."""
        requests = max(1, loaded.requests)
        rate = loaded.requests / loaded.seconds
        server_ms = 1000 * loaded.server_cpu_s / requests
        return cls(
            batch=batch,
            requests=loaded.requests,
            requests_per_s=rate,
            inferences_per_s=rate * batch,
            p50_ms=loaded.p50_ms,
            p99_ms=loaded.p99_ms,
            errors=loaded.errors,
            share_of_session=rate * batch * bare_ms / 1000,
            share_by_cpu=bare_ms * batch / server_ms if server_ms else 0.0,
            overhead_cpu_ms=server_ms - bare_ms * batch,
            client_cpu_ms=1000 * loaded.client_cpu_s / requests,
            cores=(loaded.server_cpu_s + loaded.client_cpu_s) / loaded.seconds,
            rss_mib=loaded.samples[-1].rss_mib,
            **what,
        )


def memory_slope(loaded: Loaded) -> float:
    """MiB by which the server's memory grew per 100,000 requests, in the last three quarters."""
    late = loaded.samples[len(loaded.samples) // 4 :]
    done = np.array([sample.requests for sample in late], float)
    memory = np.array([sample.rss_mib for sample in late])
    if len(late) < 2 or np.ptp(done) == 0:
        return 0.0
    return float(np.polyfit(done, memory, 1)[0] * 100_000)
