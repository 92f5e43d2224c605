"""Sums as keys: the last step of the dot products, whatever their lanes are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trencadis_host.devices.cpu.emit import F32, I16, I32, I64, Emitter, vector
from trencadis_host.devices.cpu.paths import Dot, Path

__all__ = ["Constants", "KeyForm", "KeyWriter", "RequantiseLayout"]


@dataclass(frozen=True)
class KeyForm:
    """Transformation of sums into what is written.

    Attributes
    ----------
    raw : bool
        Sums are written as they are, less a constant.
    floats : bool
        Some blocks requantise in float32.
    exact : bool
        Some blocks requantise with 64 bits.
    fixes : int
        Corrected sums per kernel.
    lifts : bool
        Some kernels' ties go to odd keys.
    low, high : int
        Bounds of keys.
    sum_bits : int
        Width at which sums wrap around; 32 if they do not.
    """

    raw: bool
    floats: bool
    exact: bool
    fixes: int
    lifts: bool
    low: int
    high: int
    sum_bits: int


@dataclass(frozen=True)
class RequantiseLayout:
    """Place of a block's constants: bytes from the block's first.

    Fields of 32 bits come first, one vector each, then those of 64 bits.
    """

    lanes: int

    def place(self, field: str) -> int:
        """Bytes before a field."""
        samples = (
            "correction",
            "scale",
            "offset",
            "sum0",
            "sum1",
            "delta0",
            "delta1",
            "ties",
            "fast",
            "lift",
        )
        wides = ("multiplier", "added", "shift")
        if field in samples:
            return samples.index(field) * 4 * self.lanes
        return (len(samples) * 4 + wides.index(field) * 8) * self.lanes

    @property
    def size(self) -> int:
        """Bytes of a block, a multiple of 64."""
        return -(-(self.place("shift") + 8 * self.lanes) // 64) * 64


@dataclass(frozen=True)
class Constants:
    """Places of the constants of a vector of sums.

    Attributes
    ----------
    block : llvmlite value
        Address of those of a block of kernels.
    kernel : llvmlite value or None
        The kernel of the block that all lanes belong to; None if every lane is a kernel.
    """

    block: Any
    kernel: Any = None


class KeyWriter:
    """Writes what sums become.

    Parameters
    ----------
    emitter : Emitter
        The function that is written.
    path : Path
        What it is compiled for.
    keys : KeyForm
        What is written.
    """

    def __init__(self, emitter: Emitter, path: Path, keys: KeyForm) -> None:
        self.e, self.path, self.form = emitter, path, keys
        self.sums = vector(I32, path.lanes)
        self._layout = RequantiseLayout(path.lanes)

    def largest(self, sums: list[Any], constants: Constants) -> Any:
        """The maximum of the steps of an output."""
        e, bits = self.e, self.form.sum_bits
        if bits < 32:
            left = e.constant(self.sums, 32 - bits)
            correction = self._constant("correction", self.sums, constants)
            sums = [e.b.ashr(e.b.shl(e.b.sub(v, correction), left), left) for v in sums]
        while len(sums) > 1:
            pairs = [e.largest(a, b) for a, b in zip(sums[::2], sums[1::2], strict=False)]
            sums = pairs + sums[len(pairs) * 2 :]
        return sums[0]

    def write(
        self, sums: list[Any], constants: Constants, store: Callable[[list[Any]], None]
    ) -> None:
        """Compute keys, or sums that are written as they are, and store them.

        Parameters
        ----------
        sums : list of llvmlite value
            Vectors of sums that have the same constants.
        constants : Constants
            Theirs.
        store : callable
            Writes the code that stores vectors of 32-bit numbers, one for each of `sums`.
        """
        e, keys = self.e, self.form
        corrected = sums
        if keys.sum_bits == 32 and (keys.raw or keys.exact):
            correction = self._constant("correction", self.sums, constants)
            corrected = [e.b.sub(v, correction) for v in sums]
        elif keys.sum_bits < 32 and keys.floats:
            correction = self._constant("correction", self.sums, constants)
            sums = [e.b.add(v, correction) for v in sums]
        if keys.raw:
            store(corrected)
        elif keys.floats and keys.exact:
            fast = e.load(I32, e.at(constants.block, self._layout.place("fast")), 4)
            with e.b.if_else(e.b.icmp_signed("!=", fast, I32(0))) as (then, otherwise):
                with then:
                    store([self._by_float(v, constants) for v in sums])
                with otherwise:
                    store([self._by_integers(v, constants) for v in corrected])
        elif keys.floats:
            store([self._by_float(v, constants) for v in sums])
        else:
            store([self._by_integers(v, constants) for v in corrected])

    def _constant(self, field: str, kind: Any, constants: Constants) -> Any:
        e = self.e
        place = e.at(constants.block, self._layout.place(field))
        if constants.kernel is None:
            return e.load(kind, place, 4)
        size = 8 if kind.element is I64 else 4
        value = e.load(kind.element, e.scaled(place, constants.kernel, size), 4)
        return e.splat(value, kind.count)

    def _by_float(self, sums: Any, constants: Constants) -> Any:
        """Keys as `rounding` proves them."""
        e, keys = self.e, self.form
        floats = vector(F32, self.path.lanes)
        value = e.b.sitofp(sums, floats)
        value = e.b.fmul(value, self._constant("scale", floats, constants))
        value = e.b.fadd(value, self._constant("offset", floats, constants))
        found = self._nearest(value)
        if keys.lifts:
            found = e.b.sub(found, self._constant("lift", self.sums, constants))
        low, high = e.constant(self.sums, keys.low), e.constant(self.sums, keys.high)
        found = e.smallest(e.largest(found, low), high)
        for fix in range(keys.fixes):
            same = e.b.icmp_signed("==", sums, self._constant(f"sum{fix}", self.sums, constants))
            delta = self._constant(f"delta{fix}", self.sums, constants)
            found = e.b.add(found, e.b.select(same, delta, e.constant(self.sums, 0)))
        return found

    def _nearest(self, value: Any) -> Any:
        """Numbers rounded half to even; all of them fit 32 bits."""
        e, lanes = self.e, self.path.lanes
        if self.path.dot is Dot.ARM:
            return e.call("llvm.aarch64.neon.fcvtns.v4i32.v4f32", self.sums, value)
        if lanes == 16:
            name = "llvm.x86.avx512.mask.cvtps2dq.512"
            nothing, all_lanes, as_set = e.constant(self.sums, 0), I16(-1), I32(4)
            return e.call(name, self.sums, value, nothing, all_lanes, as_set)
        name = "avx.cvt.ps2dq.256" if lanes == 8 else "sse2.cvtps2dq"
        return e.call(f"llvm.x86.{name}", self.sums, value)

    def _by_integers(self, sums: Any, constants: Constants) -> Any:
        """Keys of exact arithmetic; see `requantise_model`."""
        e, keys = self.e, self.form
        wide = vector(I64, self.path.lanes)
        multiplier = self._constant("multiplier", wide, constants)
        scaled = e.b.mul(e.b.sext(sums, wide), multiplier)
        scaled = e.b.add(scaled, self._constant("added", wide, constants))
        shift = self._constant("shift", wide, constants)
        quotient = e.b.ashr(scaled, shift)
        rest = e.b.sub(scaled, e.b.shl(quotient, shift))
        ties = e.b.zext(self._constant("ties", self.sums, constants), wide)
        zero, one = e.constant(wide, 0), e.constant(wide, 1)
        even = e.b.and_(e.b.icmp_signed("==", ties, one), e.b.icmp_signed("==", rest, zero))
        last = e.b.sub(e.b.shl(one, shift), e.constant(wide, 1 << 12))
        odd = e.b.and_(
            e.b.icmp_signed("==", ties, e.constant(wide, 2)), e.b.icmp_signed("==", rest, last)
        )
        down = e.b.and_(quotient, e.constant(wide, -2))
        found = e.b.select(even, down, quotient)
        found = e.b.select(odd, e.b.or_(quotient, one), found)
        found = e.smallest(
            e.largest(found, e.constant(wide, keys.low)), e.constant(wide, keys.high)
        )
        return e.b.trunc(found, self.sums)
