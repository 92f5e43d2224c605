"""Instruction sets that the engine has kernels for, and which of them a processor runs."""

import platform
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

import llvmlite.binding as llvm

from trencadis_host.devices.cpu.amx import tiles_are_allowed
from trencadis_host.errors import DeviceNameError

__all__ = ["PATHS", "Dot", "Path", "choose_path", "host_features", "runnable_paths"]


class Dot(Enum):
    """Instruction that adds four products of a byte of the map and a weight to a 32-bit sum."""

    MULTIPLY_ADD = "pmaddubsw"
    """Pairs in 16 bits first; weights are paired so that no pair leaves 16 bits."""
    EXACT = "vpdpbusd"
    """One instruction, exact for any weights."""
    ARM = "usdot"
    """Instruction like `EXACT`, on Arm."""


@dataclass(frozen=True)
class Path:
    """One set of instructions, and the shapes of the kernels that suit it.

    Attributes
    ----------
    name : str
        What users call it.
    features : tuple of str
        Features, as LLVM names them, without which the kernels do not run.
    lanes : int
        Kernels that a vector holds, 32 bits each.
    window : int
        Bytes of a map that one permutation chooses from.
    dot : Dot
        How products are added.
    accumulators : int
        Vectors of sums that fit the registers beside what else is needed.
    architecture : str
        LLVM's name of the processor's family.
    tested : bool
        The kernels have been run on such a processor; the others are only lowered.
    sample_lanes : bool
        Layers of many samples may have samples in lanes instead of kernels.
    tiles : bool
        Dense products of whole tiles are there besides.
    """

    name: str
    features: tuple[str, ...]
    lanes: int
    window: int
    dot: Dot
    accumulators: int
    architecture: str = "x86_64"
    tested: bool = True
    sample_lanes: bool = False
    tiles: bool = False

    @property
    def bits(self) -> int:
        """Width of a vector of sums."""
        return 32 * self.lanes

    @property
    def exact(self) -> bool:
        """Any four weights may share a dot product."""
        return self.dot is not Dot.MULTIPLY_ADD

    def runs_with(self, features: Collection[str]) -> bool:
        """Tell whether a processor with these features runs the kernels."""
        return set(self.features) <= set(features)


_SSE = ("sse2", "sse3", "ssse3", "sse4.1", "sse4.2", "popcnt")
_AVX2 = (*_SSE, "avx", "avx2", "bmi", "bmi2", "lzcnt")
_AVX512 = (*_AVX2, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512vnni")
_AMX = ("amx-tile", "amx-int8")
_ICE_LAKE = ("avx512vbmi", "avx512bitalg", "avx512vpopcntdq", "gfni")

PATHS = (
    Path("amx", (*_AVX512, *_ICE_LAKE, *_AMX), 16, 64, Dot.EXACT, 22, tiles=True),
    Path("avx512", (*_AVX512, *_ICE_LAKE), 16, 64, Dot.EXACT, 22),
    Path("avx512vnni", _AVX512, 16, 16, Dot.EXACT, 22),
    Path("avxvnni", (*_AVX2, "avxvnni"), 8, 16, Dot.EXACT, 10, tested=False),
    Path("avx2", _AVX2, 8, 16, Dot.MULTIPLY_ADD, 12, sample_lanes=True),
    Path("sse42", _SSE, 4, 16, Dot.MULTIPLY_ADD, 12),
    Path("neon", ("neon", "i8mm"), 4, 16, Dot.ARM, 20, "aarch64", tested=False),
)
"""The fastest first."""


def host_features() -> frozenset[str]:
    """Features of the processor at hand that the operating system allows, as LLVM names them."""
    found = frozenset(name for name, there in llvm.get_host_cpu_features().items() if there)
    return found if not found & set(_AMX) or tiles_are_allowed() else found - set(_AMX)


def runnable_paths(features: Collection[str] | None = None) -> list[Path]:
    """Paths that the processor runs, the fastest first.

    Parameters
    ----------
    features : collection of str, optional
        Features of the processor.  [default: those of the processor at hand]
    """
    known = host_features() if features is None else features
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    return [path for path in PATHS if path.architecture == machine and path.runs_with(known)]


def choose_path(name: str = "", features: Collection[str] | None = None) -> Path:
    """The path of a name, or the fastest.

    Raises
    ------
    DeviceNameError
        If there is no such path, or the processor does not run it.
    """
    runnable = runnable_paths(features)
    if not runnable:
        raise DeviceNameError(
            "device cpu: this processor has none of the paths "
            f"{', '.join(path.name for path in PATHS)}; take --device emulator"
        )
    if not name:
        return runnable[0]
    for path in runnable:
        if path.name == name:
            return path
    known = ", ".join(path.name for path in runnable)
    reason = (
        "this processor does not run it"
        if name in {path.name for path in PATHS}
        else "there is no such path"
    )
    raise DeviceNameError(f"device cpu:{name}: {reason}; take cpu, or one of {known}")
