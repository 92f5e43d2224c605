"""Estimate of a kernel's resources before any tool has run, and a check that it fits.

For UltraScale+ see `area`. For the ECP5 memories and multipliers are counted; other logic is a sum
over what a kernel is made of, with weights fitted to kernels that were synthesised (docs/boards.md
has them). It is good to some ten per cent: it says whether a kernel is far too large, and not
whether it will meet its clock.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import assert_never

from trencadis_boards import Board, Ecp5Flow, Flow, SimulationFlow, VitisFlow, ZynqFlow
from trencadis_flows.area import core_area, core_memories, kernel_area
from trencadis_flows.inventory import block_rams
from trencadis_flows.plan import PlanError
from trencadis_format.config import KernelConfig

__all__ = ["Weights", "check_fits", "estimate"]


@dataclass(frozen=True)
class Weights:
    """Amounts of one resource that the parts of a kernel take.

    Attributes
    ----------
    kernel : float
        Resources used once per kernel.
    engine, lane, multiplier, requantiser : float
        For every sample in lockstep: an engine, a lane, a multiplier, a requantiser.
    """

    kernel: float
    engine: float
    lane: float
    multiplier: float
    requantiser: float

    def total(self, kernel: KernelConfig) -> float:
        """The resource, for a kernel."""
        core = 0.0
        for engine in kernel.core.engines:
            core += kernel.core.batch_lanes * (
                self.engine
                + self.lane * engine.lanes
                + self.multiplier * engine.multipliers
                + self.requantiser * engine.requantisers
            )
        return self.kernel + kernel.cores * core


ECP5 = {
    "lut": Weights(4000, engine=6200, lane=300, multiplier=350, requantiser=600),
    "ff": Weights(2000, engine=3800, lane=200, multiplier=146, requantiser=500),
    "dsp": Weights(2, engine=0, lane=0, multiplier=1, requantiser=4),
}

SERIAL_BOARD = {"lut": 1300, "ff": 500}
"""Resources of what surrounds the kernel on an ECP5 board."""


def estimate(kernel: KernelConfig, flow: Flow) -> dict[str, float]:
    """Estimate what a kernel takes, by resource.

    Parameters
    ----------
    kernel : KernelConfig
        The kernel.
    flow : Flow
        Flow of the board, which says what its parts are made of.

    Raises
    ------
    PlanError
        If the board is only simulated.
    """
    match flow:
        case VitisFlow() | ZynqFlow():
            return _ultrascale(kernel)
        case Ecp5Flow():
            return _ecp5(kernel)
        case SimulationFlow():
            raise PlanError("a board that is only simulated has no resources")
        case _:
            assert_never(flow)


def _ultrascale(kernel: KernelConfig) -> dict[str, float]:
    core, around = core_area(kernel), kernel_area(kernel)
    return {
        name: around.get(name, 0) + kernel.cores * amount for name, amount in core.items() if amount
    }


def _ecp5(kernel: KernelConfig) -> dict[str, float]:
    taken = {name: weight.total(kernel) for name, weight in ECP5.items()}
    taken["bram18"] = kernel.cores * sum(
        count * block_rams(memory, 18) for memory, count in core_memories(kernel).items()
    )
    return taken


def check_fits(board: Board, kernel: KernelConfig) -> None:
    """Refuse a kernel that is too large for the board.

    Raises
    ------
    PlanError
        With the resource that lacks most, by how much, and the largest kernel that fits.
    """
    taken = _with_surroundings(board, estimate(kernel, board.flow))
    limits = _limits(board)
    shares = {name: taken[name] / limits.get(name, 1e-9) for name in taken if taken[name]}
    worst = max(shares, key=lambda name: shares[name])
    if shares[worst] <= 1:
        return
    many = board.compute_units
    raise PlanError(
        f"board {board.name}: {many} x {kernel.cores} cores need about "
        f"{many * taken[worst]:,.0f} {worst}, {100 * (shares[worst] - 1):,.0f} % more than the "
        f"{many * limits.get(worst, 0):,.0f} in the board's budget of {board.budget:.0%}; "
        f"{_largest(board, kernel)}"
    )


def _limits(board: Board) -> Mapping[str, float]:
    """Limit a kernel to its share of the budget."""
    return {
        name: board.budget * amount / board.compute_units
        for name, amount in board.resources.items()
    }


def _with_surroundings(board: Board, taken: Mapping[str, float]) -> dict[str, float]:
    """Add what surrounds the kernel on boards without a platform."""
    total = dict(taken)
    if isinstance(board.flow, Ecp5Flow):
        for name, amount in SERIAL_BOARD.items():
            total[name] += amount
        total["bram18"] += math.ceil(board.flow.link.memory_kib / 2) + 1
    return total


def _fits(board: Board, kernel: KernelConfig) -> bool:
    taken = _with_surroundings(board, estimate(kernel, board.flow))
    limits = _limits(board)
    return all(amount <= limits.get(name, 0) for name, amount in taken.items() if amount)


def _largest(board: Board, kernel: KernelConfig) -> str:
    """The largest kernel that fits, in words: with fewer cores, or else with fewer lanes."""
    cores = _last(kernel.cores, lambda count: replace(kernel, cores=count), board)
    if cores:
        return f"{cores} cores per kernel fit" if cores > 1 else "1 core per kernel fits"
    first = kernel.core.engines[0]

    def narrow(lanes: int) -> KernelConfig:
        engine = replace(first, lanes=lanes, groups=1)
        core = replace(kernel.core, engines=(engine, *kernel.core.engines[1:]))
        return replace(kernel, cores=1, core=core)

    if first.tiles % first.requantisers == 0:
        lanes = _last(first.lanes, narrow, board)
        if lanes:
            return f"one core with {lanes} lanes and 1 group fits"
    return "no kernel of this kind fits; choose fewer tiles or smaller memories"


def _last(most: int, make: Callable[[int], KernelConfig], board: Board) -> int:
    """The largest count below `most` of which the kernel fits; 0 if none does."""
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        if _fits(board, make(middle)):
            low = middle
        else:
            high = middle
    return low
