"""Rules of a board that no single type holds: ranges, and fields that must agree."""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass

from trencadis_boards.board import RESOURCES, Board, BoardError
from trencadis_boards.flow import Ecp5Flow, VitisFlow

__all__ = ["check_board"]

MAX_COMPUTE_UNITS = 60
BANK_BITS = (32, 64, 128, 256, 512)


@dataclass(frozen=True)
class _Rules:
    """Rules of one board file, which is named in errors."""

    file: str

    def require(self, condition: bool, path: str, rule: str, value: object) -> None:
        """Refuse a value that breaks a rule."""
        if not condition:
            raise BoardError(f"{self.file}: {path} must be {rule}, not {reprlib.repr(value)}")

    def positive(self, path: str, value: float) -> None:
        """Refuse a number that is not positive and finite."""
        self.require(0 < value < math.inf, path, "positive", value)

    def plain(self, path: str, value: str) -> None:
        """Refuse text with line ends or other control characters."""
        self.require(value.isprintable(), path, "of printable characters in one line", value)


def check_board(board: Board, file: str) -> None:
    """Check what holds between the fields of a board.

    Parameters
    ----------
    board : Board
        The board.
    file : str
        Named in errors.

    Raises
    ------
    BoardError
        If a field is out of range, or fields do not agree.
    """
    rules = _Rules(file)
    rules.plain("title", board.title)
    rules.positive("clock_mhz", board.clock_mhz)
    units = board.compute_units
    rule = f"in 1..{MAX_COMPUTE_UNITS}"
    rules.require(1 <= units <= MAX_COMPUTE_UNITS, "compute_units", rule, units)
    rules.require(0 < board.budget <= 1, "budget", "above 0 and at most 1", board.budget)
    for need in board.flow.needs:
        if not getattr(board, need):
            raise BoardError(f"{file}: field {need} is missing; flow {board.flow.kind} needs it")
    _check_resources(board, rules)
    _check_banks(board, rules)
    for key, tool in board.tools.items():
        ordered = tool.takes(tool.oldest) and tool.takes(tool.newest)
        rules.require(ordered, f"tools.{key}", "a range of versions", (tool.oldest, tool.newest))
    match board.flow:
        case VitisFlow():
            rules.require(bool(board.flow.platforms), "flow.platforms", "one or more", ())
            rules.positive("flow.host_bytes_per_s", board.flow.host_bytes_per_s)
        case Ecp5Flow():
            _check_ecp5(board.flow, rules)


def _check_resources(board: Board, rules: _Rules) -> None:
    """Check that resources are known and positive, and regions' sums the whole part's."""
    paths: dict[str, Mapping[str, int]] = {"resources": board.resources}
    for i, region in enumerate(board.regions):
        rules.plain(f"regions[{i}].name", region.name)
        paths[f"regions[{i}].resources"] = region.resources
    for path, resources in paths.items():
        for key, value in resources.items():
            rule = f"one of {', '.join(RESOURCES)}"
            rules.require(key in RESOURCES, f"{path}.{key}", rule, key)
            rules.positive(f"{path}.{key}", value)
    for key, total in board.resources.items():
        parts = sum(region.resources.get(key, 0) for region in board.regions)
        rule = f"the sum over all regions, {parts}"
        rules.require(not board.regions or parts == total, f"resources.{key}", rule, total)


def _check_banks(board: Board, rules: _Rules) -> None:
    """Check that banks have a size, a width and a name of their own, and are in a known region."""
    regions = [region.name for region in board.regions]
    for i, bank in enumerate(board.banks):
        rules.plain(f"banks[{i}].name", bank.name)
        rules.positive(f"banks[{i}].size_mib", bank.size_mib)
        rules.require(bank.bits in BANK_BITS, f"banks[{i}].bits", "a bus width", bank.bits)
        rules.positive(f"banks[{i}].bytes_per_s", bank.bytes_per_s)
        rule = f"one of {', '.join(regions)}" if regions else "left out"
        rules.require(bank.region in (regions or [""]), f"banks[{i}].region", rule, bank.region)
    names = [bank.name for bank in board.banks]
    rules.require(len(set(names)) == len(names), "banks", "named differently", names)


def _check_ecp5(flow: Ecp5Flow, rules: _Rules) -> None:
    """Check what an ECP5 board says of its link."""
    rules.positive("flow.link.baud", flow.link.baud)
    rules.positive("flow.link.memory_kib", flow.link.memory_kib)
