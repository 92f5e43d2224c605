"""Parameters of additions of two quantised maps, proved for every pair of keys."""

import itertools
import math

import numpy as np
import numpy.typing as npt

from trencadis_compiler.ir.network import Quantisation
from trencadis_format.layer_tables import Ties
from trencadis_format.map_tables import ADD, ADD_SHIFT
from trencadis_format.models.add import add_keys
from trencadis_format.models.requantise_parameters import InexactError

__all__ = ["add_parameters", "exact_sums"]

Array = npt.NDArray[np.int64]

KEYS = np.arange(256, dtype=np.int64)


def exact_sums(first: Quantisation, second: Quantisation, out: Quantisation) -> Array:
    """Keys of the sums of all pairs of keys, neither clipped: rounded half to even, exactly.

    Returns
    -------
    int64 array, shape (256, 256)
        By the first and the second key.
    """
    ratios = [of.exact_scale / out.exact_scale for of in (first, second)]
    common = math.lcm(*(ratio.denominator for ratio in ratios))
    factors = [int(ratio * common) for ratio in ratios]
    found = np.empty((256, 256), np.int64)
    # Numbers without a limit: factors have hundreds of bits.
    for a, b in itertools.product(range(256), repeat=2):
        number = factors[0] * (a - first.zero_key) + factors[1] * (b - second.zero_key)
        quotient, rest = divmod(2 * number + common, 2 * common)
        key = quotient - (rest == 0 and quotient % 2) + out.zero_key
        found[a, b] = min(max(key, -(1 << 20)), 1 << 20)
    return found


def add_parameters(
    first: Quantisation, second: Quantisation, out: Quantisation, low: int, high: int
) -> dict[str, int]:
    """Fields of `ADD` that give the exact key for every pair of keys.

    Raises
    ------
    InexactError
        If there are none: names a pair that the best ones miss.
    """
    exact = np.clip(exact_sums(first, second, out), low, high)
    ratios = [of.exact_scale / out.exact_scale * (1 << ADD_SHIFT) for of in (first, second)]
    nearest = [round(ratio) for ratio in ratios]
    if max(nearest) > ADD["first"].high:
        raise InexactError("its inputs have scales more than 16 times that of its output")
    tried: dict[str, int] = {}
    for steps in sorted(itertools.product((0, -1, 1), repeat=2), key=lambda s: sum(map(abs, s))):
        factors = [max(0, n + step) for n, step in zip(nearest, steps, strict=True)]
        for ties, offset in _offsets(exact, factors, low, high, (first, second, out)):
            if not ADD["offset"].low <= offset <= ADD["offset"].high:
                continue
            tried = {
                "first": factors[0],
                "second": factors[1],
                "offset": offset,
                "ties": ties,
                "low": low,
                "high": high,
            }
            if np.array_equal(add_keys(KEYS[:, None], KEYS, **tried), exact):
                return tried
    wrong = np.argwhere(add_keys(KEYS[:, None], KEYS, **tried) != exact) if tried else [[0, 0]]
    a, b = (int(key) - of.key_offset for key, of in zip(wrong[0], (first, second), strict=True))
    raise InexactError(f"no constants give the exact sum of the integers {a} and {b}")


def _offsets(
    exact: Array,
    factors: list[int],
    low: int,
    high: int,
    quantisations: tuple[Quantisation, Quantisation, Quantisation],
) -> list[tuple[Ties, int]]:
    """Offsets that may do, with the rule for ties."""
    scaled = KEYS[:, None] * factors[0] + KEYS * factors[1]
    reached, missed = exact > low, exact < high
    at_least = ((exact << ADD_SHIFT) - scaled)[reached].max(initial=ADD["offset"].low)
    at_most = ((exact + 1 << ADD_SHIFT) - 1 - scaled)[missed].min(initial=ADD["offset"].high)
    first, second, out = quantisations
    tie = (out.zero_key << ADD_SHIFT) + (1 << (ADD_SHIFT - 1))
    tie -= factors[0] * first.zero_key + factors[1] * second.zero_key
    odd = out.zero_key % 2
    return [
        (Ties.FLOOR, int(at_least + at_most) // 2),
        (Ties.ODD, tie - 1) if odd else (Ties.EVEN, tie),
    ]
