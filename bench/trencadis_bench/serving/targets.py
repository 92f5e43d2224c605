"""Targets of serving, checked on what was measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from trencadis_bench.serving.rows import Row

__all__ = ["Target", "check_targets"]

MIN_SHARE = 0.6
"""Inferences per second over gRPC, of the bare session's, in the best case."""

LARGE_REQUESTS = range(32, 257)
"""Inputs per request of that case."""

MAX_OVERHEAD_MS = 3.0
"""CPU time of the server's own per request with one input, whatever the number of clients."""

MAX_GROWTH_MIB = 10.0
"""Growth of the server's memory from the first to the last of many requests."""

MANY_REQUESTS = 50_000
"""Fewer requests say nothing about memory but how it begins."""

Target = tuple[str, bool]
"""Target, result, and whether the one meets the other."""


def check_targets(
    rows: Sequence[Row], memory: Mapping[str, Any] | None, device: str, max_batch: int
) -> list[Target]:
    """Targets with what was measured; those for which nothing was measured are left out.

    Parameters
    ----------
    rows : sequence of Row
        All loads.
    memory : mapping or None
        What `memory` found.
    device : str
        The device that the targets are for.
    max_batch : int
        Largest batch of the server that they are for.
    """
    errors = sum(row.errors for row in rows) + (memory["errors"] if memory else 0)
    found = [(f"{errors} errors (wanted: none)", errors == 0)]
    mine = [row for row in rows if row.device == device and row.max_batch == max_batch]
    large = [row for row in mine if row.protocol == "grpc" and row.batch in LARGE_REQUESTS]
    if large:
        best = max(large, key=lambda row: row.share_of_session)
        text = (
            f"{best.share_of_session:.0%} of the session by the clock, {best.share_by_cpu:.0%} by "
            f"CPU time, over gRPC with {best.batch} inputs per request of {best.clients} clients "
            f"(wanted: at least {MIN_SHARE:.0%} by the clock)"
        )
        found.append((text, best.share_of_session >= MIN_SHARE))
    single = [row for row in mine if row.batch == 1]
    if single:
        worst = max(single, key=lambda row: row.overhead_cpu_ms)
        text = (
            f"{worst.overhead_cpu_ms:.2f} ms of CPU per request with one input at most, over "
            f"{worst.protocol} of {worst.clients} clients (wanted: at most {MAX_OVERHEAD_MS:g} ms)"
        )
        found.append((text, worst.overhead_cpu_ms <= MAX_OVERHEAD_MS))
    if memory and memory["requests"] >= MANY_REQUESTS:
        growth = memory["rss_last_mib"] - memory["rss_first_mib"]
        slopes = memory["mib_per_100000_requests"]
        late = ", ".join(f"{name} {slope:.1f}" for name, slope in slopes.items())
        text = (
            f"memory grew by {growth:.1f} MiB over {memory['requests']:,} requests, late ones by "
            f"MiB per 100,000: {late} (wanted: at most {MAX_GROWTH_MIB:g} MiB)"
        )
        found.append((text, growth <= MAX_GROWTH_MIB))
    return found
