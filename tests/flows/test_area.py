"""The area model against what Yosys made of the boards' cores."""

import pytest

from trencadis_bench.synth.run import load_baseline
from trencadis_boards import load_board
from trencadis_flows.area import core_area, engine_area, kernel_area


@pytest.mark.parametrize("name", ["u250", "zu3eg"])
def test_cores_of_the_boards(name: str) -> None:
    baseline = load_baseline(name)
    if baseline is None:
        pytest.skip("there is no baseline")
    kernel = load_board(name).kernel
    found, core = core_area(kernel), baseline["core"]
    for resource in ("lut", "ff", "bram36"):
        assert found[resource] == pytest.approx(core[resource], rel=0.03)
    assert found["dsp"] == core["dsp"]
    # Yosys makes two memories of half the width of one.
    assert 0.8 * found["uram"] <= core.get("uram", 0) <= found["uram"]
    around = kernel_area(kernel)
    for resource in ("lut", "ff"):
        assert around[resource] == pytest.approx(baseline["around_cores"][resource], rel=0.1)


def test_a_core_is_its_engines_and_what_moves_samples() -> None:
    kernel = load_board("u250").kernel
    engines = sum(engine_area(engine, 2)["lut"] for engine in kernel.core.engines)
    assert core_area(kernel)["lut"] > engines
    assert core_area(kernel)["dsp"] == sum(
        engine_area(engine, 2)["dsp"] for engine in kernel.core.engines
    )
