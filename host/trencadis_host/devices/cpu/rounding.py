"""Requantising in float32 where it is proved equal to exact arithmetic, kernel by kernel.

A key is a function of the sum that only grows, with at most 255 steps. So is
`round(float32(float32(sum) * scale) + offset)`, which rounds half to even; where ties go to odd
keys, it is of a key more, of which one is taken off. Where both take each step at the same sum they
are the same function: that is checked for every kernel, at every step that an input can reach. One
or two sums of a kernel whose keys differ by one are corrected by comparison; a kernel with more is
computed with 64 bits.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from trencadis_format.layer_tables import Ties
from trencadis_format.models.requantise import requantise
from trencadis_format.widths import OFFSET_SHIFT, SHIFT_BASE, SHIFT_STEP
from trencadis_host.devices.cpu.programs import LayerProgram

__all__ = ["MAX_FIXES", "FloatKeys", "prove"]

Array = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

MAX_FIXES = 2
"""Sums of a kernel whose keys are corrected."""

NO_SUM = np.iinfo(np.int32).min
"""A sum that no kernel reaches: its correction never happens."""

MAX_NUMBER = 2.0**30

NUDGES = 8
"""Scales that are tried on either side of the nearest, in units of the last place."""


@dataclass(frozen=True)
class FloatKeys:
    """Constants with which keys are computed in float32; sums are of products with keys of the map.

    Attributes
    ----------
    scale, offset : float32 array, shape (outputs,)
        Scale and offset of each kernel.
    sums, deltas : int32 array, shape (MAX_FIXES, outputs)
        Sums whose keys are corrected, and what is added to these.
    lifts : int32 array, shape (outputs,)
        Taken off the rounded number.
    proved : bool array, shape (outputs,)
        Whether the kernel's keys are right for every sum that an input can make.
    """

    scale: Floats
    offset: Floats
    sums: npt.NDArray[np.int32]
    deltas: npt.NDArray[np.int32]
    lifts: npt.NDArray[np.int32]
    proved: npt.NDArray[np.bool_]

    @property
    def fixes(self) -> int:
        """Corrections that a kernel needs at most."""
        return int((self.deltas != 0).any(axis=1).sum())

    def keys(self, sums: Array, low: int, high: int) -> Array:
        """Keys of `sums`, shape (outputs, ...), as the kernels compute them."""
        shape = (-1,) + (1,) * (sums.ndim - 1)
        numbers = _rounded(sums, self.scale.reshape(shape), self.offset.reshape(shape))
        keys = np.clip(numbers - self.lifts.reshape(shape), low, high).astype(np.int64)
        for fixed, delta in zip(self.sums, self.deltas, strict=True):
            keys += np.where(sums == fixed.reshape(shape), delta.reshape(shape), 0)
        return keys


def prove(program: LayerProgram) -> FloatKeys:
    """Find scales and offsets, and prove them.

    Parameters
    ----------
    program : LayerProgram
        A layer that gives keys.
    """
    low, high = program.low, program.high
    steps = np.arange(low + 1, high + 1)
    parameters = {name: field[:, None] for name, field in program.parameters.items()}
    first = _first_sums(parameters, steps)
    least, most = (bound[:, None] for bound in program.reach)
    # Beside each step: what is checked, as far as it can happen.
    corrections = program.corrections[:, None]
    above, below = np.clip(first, least, most), np.clip(first - 1, least, most)
    wanted_above, wanted_below = (
        requantise(sums, **parameters, low=low, high=high) for sums in (above, below)
    )
    lifts = (program.parameters["ties"] == Ties.ODD).astype(np.int64)
    points = np.concatenate([above, below], axis=1) + corrections
    wanted = np.concatenate([wanted_above, wanted_below], axis=1)
    state = _Search(points, wanted, steps, lifts, (low, high))
    state.search(*_nearest(program))
    return state.proved(program, first)


class _Search:
    """The best scale and offset so far of every kernel."""

    def __init__(
        self, points: Array, wanted: Array, steps: Array, lifts: Array, bounds: tuple[int, int]
    ) -> None:
        self._points, self._wanted, self._steps = points, wanted, steps
        self._lifts, self._bounds = lifts, bounds
        self._wrong = np.full(len(points), np.iinfo(np.int64).max)
        self._scale, self._offset = np.zeros((2, len(points)), np.float32)

    def search(self, scale: Floats, offset: Floats) -> None:
        """Try the nearest scale and offset, then those around them where a key is wrong."""
        self._try(scale, offset)
        for nudge in sorted(range(-NUDGES, NUDGES + 1), key=abs):
            left = np.flatnonzero(self._wrong)
            if not len(left):
                return
            nudged = (scale + nudge * np.spacing(scale)).astype(np.float32)
            for centre in (offset, self._centred(nudged, offset)):
                for step in (0, 1, -1):
                    self._try(nudged, (centre + step * np.spacing(centre)).astype(np.float32))

    def _centred(self, scale: Floats, offset: Floats) -> Floats:
        """Offsets in the middle of what the steps allow."""
        half = self._points.shape[1] // 2
        if not half:
            return offset
        exact = self._points * scale[:, None].astype(np.float64)
        steps = self._steps - 0.5 + self._lifts[:, None]
        least = (steps - exact[:, :half]).max(axis=1)
        most = (steps - exact[:, half:]).min(axis=1)
        return ((least + most) / 2).astype(np.float32)

    def _try(self, scale: Floats, offset: Floats) -> None:
        left = np.flatnonzero(self._wrong)
        numbers = _rounded(self._points[left], scale[left, None], offset[left, None])
        keys = np.clip(numbers - self._lifts[left, None], *self._bounds)
        wrong = (keys != self._wanted[left]).sum(axis=1)
        better = wrong < self._wrong[left]
        chosen = left[better]
        self._wrong[chosen] = wrong[better]
        self._scale[chosen], self._offset[chosen] = scale[chosen], offset[chosen]

    def proved(self, program: LayerProgram, first: Array) -> FloatKeys:
        """The best found, with corrections, checked once more against the exact function."""
        low, high = self._bounds
        kernels = len(first)
        sums = np.full((MAX_FIXES, kernels), NO_SUM, np.int64)
        deltas = np.zeros((MAX_FIXES, kernels), np.int64)
        for kernel in np.flatnonzero(self._wrong):
            numbers = _rounded(self._points[kernel], self._scale[kernel], self._offset[kernel])
            keys = np.clip(numbers - self._lifts[kernel], low, high).astype(np.int64)
            delta = self._wanted[kernel] - keys
            points, where = np.unique(self._points[kernel][delta != 0], return_index=True)
            if len(points) > MAX_FIXES:
                continue
            sums[: len(points), kernel] = points
            deltas[: len(points), kernel] = delta[delta != 0][where]
        found = FloatKeys(
            self._scale,
            self._offset,
            sums.astype(np.int32),
            deltas.astype(np.int32),
            self._lifts.astype(np.int32),
            np.ones(kernels, bool),
        )
        least, most = (bound[:, None] for bound in program.reach)
        corrections = program.corrections[:, None]
        right = np.ones(kernels, bool)
        # Between corrected sums the function still only grows: two sums on either side tell.
        for distance in (-2, -1, 0, 1):
            points = np.clip(first + distance, least, most)
            parameters = {name: field[:, None] for name, field in program.parameters.items()}
            wanted = requantise(points, **parameters, low=low, high=high)
            right &= (found.keys(points + corrections, low, high) == wanted).all(axis=1)
        for bound in (least, most):
            wanted = requantise(bound, **parameters, low=low, high=high)
            right &= (found.keys(bound + corrections, low, high) == wanted).all(axis=1)
            # The processor's conversion gives no larger numbers.
            numbers = _rounded(bound + corrections, found.scale[:, None], found.offset[:, None])
            right &= (np.abs(numbers) < MAX_NUMBER).all(axis=1)
        return replace(found, proved=right)


def _first_sums(parameters: dict[str, Array], steps: Array) -> Array:
    """The smallest sum that gives at least each key, shape (outputs, steps).

    Where the multiplier is 0 there is none: a sum that is as good as any is returned.
    """
    multiplier = parameters["multiplier"]
    added = parameters["offset"] << OFFSET_SHIFT
    bits = SHIFT_BASE + SHIFT_STEP * parameters["shift"]
    wanted = (steps << bits) - added
    divisor = np.maximum(multiplier, 1)
    first = -(-wanted // divisor)
    ties, odd = parameters["ties"], steps % 2 == 1
    exact = first * divisor == wanted
    first += (ties == Ties.EVEN) & odd & exact
    before = (first - 1) * divisor == wanted - (1 << OFFSET_SHIFT)
    first -= (ties == Ties.ODD) & odd & before
    return np.clip(first, NO_SUM, -NO_SUM)


def _nearest(program: LayerProgram) -> tuple[Floats, Floats]:
    """Scale and offset rounded to float32, for sums of products with keys of the map."""
    fields = program.parameters
    unit = np.ldexp(1.0, -(SHIFT_BASE + SHIFT_STEP * fields["shift"]).astype(np.int32))
    scale = (fields["multiplier"] * unit).astype(np.float32)
    odd = fields["ties"] == Ties.ODD
    # Of ties to odd keys the offset is one unit less; see `Ties`.
    exact = ((fields["offset"] + odd) << OFFSET_SHIFT) * unit - 0.5 + odd
    offset = exact - program.corrections * (fields["multiplier"] * unit)
    return scale, offset.astype(np.float32)


def _rounded(sums: Array, scale: Floats | np.float32, offset: Floats | np.float32) -> Floats:
    """Results of the kernels: product and sum are rounded each on its own."""
    product = (sums.astype(np.float32) * scale).astype(np.float32)
    return np.rint((product + offset).astype(np.float32))
