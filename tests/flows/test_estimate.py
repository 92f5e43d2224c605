from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from trencadis_bench.synth.run import load_baseline
from trencadis_boards import Board, load_board
from trencadis_flows.area import core_memories
from trencadis_flows.estimate import check_fits, estimate
from trencadis_flows.inventory import Memory, block_rams, memories, ultra_rams
from trencadis_flows.plan import PlanError
from trencadis_format.config import CoreConfig, EngineConfig, KernelConfig
from trencadis_hw.generate import KERNEL_NAME, kernel_verilog

ENGINE: dict[str, Any] = {
    "lanes": 3,
    "tiles": 4,
    "kernels_per_tile": 4,
    "dense_values": 100,
    "list_entries": 60,
    "weight_rows": 50,
    "requantisers": 2,
    "requantise_rows": 40,
    "reorder_rows": 128,
    "select_rows": 4,
    "whole_rows": 30,
    "tables": 2,
    "layers": 4,
}


def engine(**changes: Any) -> dict[str, Any]:
    return ENGINE | changes


KERNELS = {
    "plain": KernelConfig(core=CoreConfig(engines=(EngineConfig(**ENGINE),))),
    "two samples, two cores": KernelConfig(
        cores=2, core=CoreConfig(batch_lanes=2, engines=(EngineConfig(**ENGINE),))
    ),
    "chain": KernelConfig(
        core=CoreConfig(
            engines=(
                EngineConfig(**engine(weight_memory="ultra")),
                EngineConfig(
                    **engine(dense_values=0, tables=0, reorder_rows=16, weight_memory="distributed")
                ),
            )
        )
    ),
    "trees": KernelConfig(
        core=CoreConfig(engines=(EngineConfig(**engine(whole_rows=0, routing="trees")),))
    ),
}


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_memories_are_those_in_the_verilog(name: str) -> None:
    kernel = KERNELS[name]
    counted = memories(kernel_verilog(kernel), KERNEL_NAME)
    large = {memory: count for memory, count in counted.items() if memory.style != "distributed"}
    assert large == {
        memory: kernel.cores * count for memory, count in core_memories(kernel).items()
    }


@pytest.mark.parametrize(
    ("bits", "depth", "kbit18", "kbit36"),
    [
        (9, 2048, 1, 0.5),
        (18, 1024, 1, 0.5),
        (100, 1024, 6, 3),
        (100, 2048, 12, 6),
        (72, 512, 2, 1),
        (36, 512, 1, 0.5),
        (37, 512, 2, 1),
        (1, 32768, 2, 1),
        (8, 16, 1, 0.5),
        (125, 128, 4, 2),
    ],
)
def test_blocks_of_a_memory(bits: int, depth: int, kbit18: float, kbit36: float) -> None:
    memory = Memory("block", bits, depth)
    assert block_rams(memory, 18) == kbit18
    assert block_rams(memory, 36) == kbit36


def test_ultra_rams_of_a_memory() -> None:
    assert ultra_rams(Memory("ultra", 72, 4096)) == 1
    assert ultra_rams(Memory("ultra", 73, 4096)) == 2
    assert ultra_rams(Memory("ultra", 100, 2048)) == 2
    assert ultra_rams(Memory("ultra", 72, 4097)) == 2


SMALL_MEMORIES = {
    "dense_values": 2048,
    "weight_rows": 1024,
    "requantise_rows": 128,
    "reorder_rows": 128,
    "whole_rows": 64,
}
MEASURED = {
    # What Yosys 0.70 made of kernels; of the ULX3S's own, nextpnr 0.11.
    "ulx3s": ("ecp5", {}, {"lut": 18290, "ff": 10260, "dsp": 26, "bram18": 43}),
    "8 x 8": (
        "ecp5",
        {**SMALL_MEMORIES, "lanes": 8, "tiles": 8, "groups": 2, "requantisers": 4},
        {"lut": 36400, "ff": 17960, "dsp": 82, "bram18": 81},
    ),
    "4 x 4": (
        "zynq",
        {**SMALL_MEMORIES, "kernels_per_tile": 8},
        {"lut": 7830, "ff": 8355, "dsp": 14, "bram36": 15.5},
    ),
}


FLOWS = {"ecp5": load_board("ulx3s").flow, "zynq": load_board("zu3eg").flow}


@pytest.mark.parametrize("name", sorted(MEASURED))
def test_estimate_is_near_what_was_measured(name: str) -> None:
    family, changes, measured = MEASURED[name]
    kernel = load_board("ulx3s").kernel
    engine = replace(kernel.core.engines[0], **changes)
    taken = estimate(replace(kernel, core=replace(kernel.core, engines=(engine,))), FLOWS[family])
    for resource, amount in measured.items():
        if resource in ("lut", "ff"):
            assert abs(taken[resource] / amount - 1) < (0.05 if family == "ecp5" else 0.1)
        else:
            assert taken[resource] == amount


@pytest.mark.parametrize("name", ["u250", "zu3eg", "ulx3s"])
def test_kernels_of_the_boards_fit(name: str) -> None:
    board = load_board(name)
    check_fits(board, board.kernel)


def test_estimate_grows_with_the_kernel() -> None:
    small = estimate(KERNELS["plain"], FLOWS["zynq"])
    large = estimate(replace(KERNELS["plain"], cores=3), FLOWS["zynq"])
    assert all(large[name] > small[name] for name in small)
    assert large["bram36"] == 3 * small["bram36"]


def test_too_large_names_resource_amount_and_what_fits() -> None:
    board = load_board("u250")
    kernel = board.kernel
    many = replace(kernel, cores=60)
    with pytest.raises(PlanError) as caught:
        check_fits(board, many)
    message = str(caught.value)
    assert "board u250: 4 x 60 cores need about" in message
    assert "% more than the" in message
    assert "\n" not in message
    fitting = int(message.split("; ")[-1].split()[0])
    check_fits(board, replace(kernel, cores=fitting))
    with pytest.raises(PlanError):
        check_fits(board, replace(kernel, cores=fitting + 1))


def test_one_core_too_large_names_the_lanes_that_fit() -> None:
    board = load_board("ulx3s")
    kernel = board.kernel
    engine = replace(kernel.core.engines[0], lanes=128, groups=1)
    wide = replace(kernel, core=replace(kernel.core, engines=(engine,)))
    with pytest.raises(PlanError, match=r"one core with \d+ lanes and 1 group fits"):
        check_fits(board, wide)


def test_part_without_a_resource(board: Callable[[str], Board]) -> None:
    """The ZU3EG has no ultra memories."""
    zu3eg = board("zu3eg")
    kernel = zu3eg.kernel
    engine = replace(kernel.core.engines[0], weight_memory="ultra")
    ultra = replace(kernel, core=replace(kernel.core, engines=(engine,)))
    with pytest.raises(PlanError, match=r"uram, .* more than the 0 in the board's budget"):
        check_fits(zu3eg, ultra)


def lacking(board: Board, synthesised: dict[str, float]) -> set[str]:
    """Resources of which a kernel was synthesised to more than its share of the budget."""
    share = board.budget / board.compute_units
    return {
        name
        for name, amount in synthesised.items()
        if amount > share * board.resources.get(name, 0)
    }


@pytest.mark.parametrize("name", ["u250", "zu3eg"])
def test_kernels_of_the_cards_were_synthesised_to_fit(name: str) -> None:
    """By Yosys, whole: the results that are kept by `python -m trencadis_bench.synth.run`."""
    baseline = load_baseline(name)
    if baseline is None:
        pytest.skip("its kernel has not been synthesised")
    board = load_board(name)
    kernel = board.kernel
    assert kernel.core.multipliers == baseline["multipliers_per_core"]
    core, around = baseline["core"], baseline["around_cores"]
    synthesised = {
        resource: kernel.cores * core.get(resource, 0) + around.get(resource, 0)
        for resource in ("lut", "ff", "dsp", "bram36", "uram")
    }
    assert lacking(board, synthesised) == set()
    assert "lut" in lacking(replace(board, budget=0.4 * board.budget), synthesised)
    guessed = estimate(kernel, board.flow)
    for resource, amount in synthesised.items():
        assert guessed.get(resource, 0) == pytest.approx(
            amount, rel=0.2 if resource == "uram" else 0.03
        ), resource
