import itertools
from fractions import Fraction

import numpy as np
import pytest

from trencadis_compiler.ir.network import Quantisation
from trencadis_compiler.maps.add import add_parameters
from trencadis_format.models.add import add_keys
from trencadis_format.models.requantise_parameters import InexactError


def exact(first: Quantisation, second: Quantisation, out: Quantisation, a: int, b: int) -> int:
    """The key of a sum by its definition, one pair at a time."""
    real = first.exact_scale * (a - first.zero_key) + second.exact_scale * (b - second.zero_key)
    return round(Fraction(real) / out.exact_scale) + out.zero_key


@pytest.mark.parametrize(
    ("scales", "zeros"),
    [
        ((0.0393, 0.1042, 0.0931), (-128, 4, -128)),
        ((0.5, 0.5, 1.0), (0, 0, 0)),  # every other sum is a tie
        ((0.5, 0.25, 1.0), (3, -7, 1)),  # ties to odd keys
        ((0.1, 0.1, 0.1), (0, 0, 0)),
        ((3.0, 0.001, 0.25), (-128, 127, 11)),
    ],
)
def test_all_pairs_are_exact(
    scales: tuple[float, float, float], zeros: tuple[int, int, int]
) -> None:
    first, second, out = (
        Quantisation(np.float32(scale), zero, True)
        for scale, zero in zip(scales, zeros, strict=True)
    )
    low, high = 20, 250
    found = add_parameters(first, second, out, low, high)
    for a, b in itertools.product(range(0, 256, 5), range(0, 256, 3)):
        expected = min(max(exact(first, second, out, a, b), low), high)
        assert int(add_keys(a, b, **found)) == expected


def test_scales_beyond_the_factors_are_refused() -> None:
    coarse, fine = (Quantisation(np.float32(scale), 0, True) for scale in (100.0, 0.001))
    with pytest.raises(InexactError, match="more than 16 times"):
        add_parameters(coarse, fine, fine, 0, 255)
