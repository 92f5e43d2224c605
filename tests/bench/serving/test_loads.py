"""Load on a real server, for a moment."""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from trencadis_bench.serving.loads import Case, Ground, measure, memory
from trencadis_bench.serving.plan import Loaded, Plan, Sample
from trencadis_bench.serving.rows import Row, memory_slope
from trencadis_bench.serving.run import table
from trencadis_bench.serving.servers import served
from trencadis_format.errors import FailureError
from trencadis_host import Session
from trencadis_host.measure.benchmark import random_inputs

# It is not imported, since it would replace the sockets and threads of all other tests.
locust = pytest.mark.skipif(find_spec("locust") is None, reason="locust is not installed")

LOADED = Loaded(
    seconds=2.0,
    requests=400,
    errors=0,
    first_error="",
    p50_ms=1.0,
    p99_ms=2.0,
    server_cpu_s=0.8,
    client_cpu_s=0.4,
    samples=[Sample(0, 0.0, 100.0), Sample(200, 0.4, 110.0), Sample(400, 0.8, 112.0)],
)


def test_rows_compare_with_the_bare_session() -> None:
    what = {"device": "cpu", "protocol": "grpc", "clients": 2, "max_batch": 256}
    row = Row.of(LOADED, 0.05, 20, **what)
    assert row.requests_per_s == 200
    assert row.inferences_per_s == 4000
    assert row.share_of_session == pytest.approx(4000 / 20000)
    assert row.share_by_cpu == pytest.approx(20 * 0.05 / 2)
    assert row.overhead_cpu_ms == pytest.approx(1)
    assert row.client_cpu_ms == pytest.approx(1)
    assert row.cores == pytest.approx(0.6)
    assert row.rss_mib == 112


def test_the_slope_leaves_the_start_out() -> None:
    samples = [Sample(0, 0, 0)] + [Sample(1000 * i, 0, 100 + i / 100) for i in range(1, 8)]
    assert memory_slope(replace(LOADED, samples=samples)) == pytest.approx(1.0)
    assert memory_slope(replace(LOADED, samples=samples[:1])) == 0


def test_plans_pass_to_another_process(tmp_path: Path) -> None:
    plan = Plan(
        protocol="http",
        address="127.0.0.1:1",
        path="/x",
        server=1,
        request=tmp_path / "a",
        answer=tmp_path / "b",
        json_length=3,
        clients=4,
        seconds=1.5,
    )
    plan.write(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json") == plan


@locust
def test_both_protocols_are_loaded(
    compiled: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    image = compiled()[1]
    with Session(image, "emulator") as session:
        ground = Ground(image, "emulator", session, random_inputs(session, 4), tmp_path, 0.3)
        cases = [Case("http", 2, 4), Case("grpc", 3, 1)]
        seen: list[Row] = []
        rows = measure(ground, 8, cases, seen.append)
        assert rows == seen
        assert [(row.protocol, row.clients, row.batch) for row in rows] == [
            ("http", 2, 4),
            ("grpc", 3, 1),
        ]
        assert all(row.errors == 0 and row.requests > 0 for row in rows)
        assert all(row.p99_ms >= row.p50_ms > 0 for row in rows)
        assert table(rows).row_count == 2
        found = memory(ground, 40)
        assert found["errors"] == 0
        assert found["rss_last_mib"] > 10
        wrong = replace(ground, session=_Other(session))
        with (
            served([image, "--device=emulator"]) as server,
            pytest.raises(FailureError, match="not the session's"),
        ):
            wrong.load(server, Case("grpc", 1, 1))


class _Other:
    """A session of which outputs are wrong."""

    def __init__(self, session: Session) -> None:
        self.get_inputs, self.get_outputs = session.get_inputs, session.get_outputs
        self._run = session.run

    def run(self, names: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [output + 1 for output in self._run(names, feed)]


def test_a_server_that_does_not_start_is_one_line() -> None:
    with pytest.raises(FailureError, match=r"does not start.*none\.tcd"), served(["none.tcd"]):
        pass
