"""Targets are checked on what was measured."""

from dataclasses import replace
from typing import Any

import pytest

from trencadis_bench.serving.rows import Row
from trencadis_bench.serving.targets import check_targets

ROW = Row(
    device="cpu",
    protocol="grpc",
    clients=8,
    batch=256,
    max_batch=256,
    requests=400,
    requests_per_s=100.0,
    inferences_per_s=25_600.0,
    p50_ms=1.0,
    p99_ms=2.0,
    errors=0,
    share_of_session=0.61,
    share_by_cpu=0.7,
    overhead_cpu_ms=5.0,
    client_cpu_ms=1.0,
    cores=1.5,
    rss_mib=100.0,
)
SINGLE = replace(ROW, protocol="http", batch=1, share_of_session=0.05, overhead_cpu_ms=2.9)
MEMORY = {
    "errors": 0,
    "requests": 100_000,
    "rss_first_mib": 144.0,
    "rss_last_mib": 146.0,
    "mib_per_100000_requests": {"http": 2.0, "grpc": -1.0},
}


def missed(rows: list[Row], memory: dict[str, Any] | None = MEMORY) -> list[str]:
    return [text for text, met in check_targets(rows, memory, "cpu", 256) if not met]


def test_all_are_met() -> None:
    assert len(check_targets([ROW, SINGLE], MEMORY, "cpu", 256)) == 4
    assert missed([ROW, SINGLE]) == []


def test_what_was_not_measured_is_left_out() -> None:
    assert len(check_targets([], None, "cpu", 256)) == 1
    few = {**MEMORY, "requests": 400, "rss_last_mib": 200.0}
    assert len(check_targets([], few, "cpu", 256)) == 1


@pytest.mark.parametrize(
    ("rows", "memory", "text"),
    [
        ([replace(ROW, share_of_session=0.59)], MEMORY, "59% of the session"),
        ([replace(SINGLE, overhead_cpu_ms=3.1)], MEMORY, "3.10 ms of CPU"),
        ([replace(SINGLE, errors=1)], MEMORY, "1 errors"),
        ([ROW], {**MEMORY, "errors": 2}, "2 errors"),
        ([ROW], {**MEMORY, "rss_last_mib": 155.0}, "11.0 MiB over 100,000 requests"),
    ],
)
def test_a_target_that_is_missed_says_what_came_out(
    rows: list[Row], memory: dict[str, Any], text: str
) -> None:
    (line,) = missed(rows, memory)
    assert text in line


@pytest.mark.parametrize(
    "other",
    [
        replace(ROW, device="emulator", share_of_session=0.1),
        replace(ROW, protocol="http", share_of_session=0.9),
        replace(ROW, batch=512, share_of_session=0.9),
        replace(ROW, max_batch=1, share_of_session=0.9),
    ],
)
def test_other_loads_do_not_count(other: Row) -> None:
    low = replace(ROW, share_of_session=0.5)
    assert missed([ROW, other]) == []
    assert len(missed([low, other])) == 1
