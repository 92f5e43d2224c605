"""Keys in float32 against exact ones, at every sum that an input can make."""

import numpy as np
import pytest

from trencadis_format.layer_tables import Selection, Ties
from trencadis_format.models.requantise import requantise
from trencadis_format.widths import OFFSET_SHIFT
from trencadis_host.devices.cpu.programs import LayerProgram, MapLayout
from trencadis_host.devices.cpu.rounding import FloatKeys, prove


def program(
    multiplier: list[int], offset: list[int], ties: list[int], *, zero: int = 0, low: int = 0
) -> LayerProgram:
    """A layer with the same 20 weights for every kernel."""
    kernels = len(multiplier)
    weights = np.random.default_rng(3).integers(-60, 61, (1, 4, 5)).astype(np.int8)
    layout = MapLayout(2, 2, 5, 2, 0, 6, 16, zero)
    return LayerProgram(
        weights=np.repeat(weights, kernels, axis=0),
        offsets=np.arange(4),
        origins=np.zeros((1, 1), np.int64),
        steps=(0,),
        source=layout,
        target=layout,
        sum_bits=32,
        parameters={
            "multiplier": np.array(multiplier),
            "offset": np.array(offset),
            "shift": np.full(kernels, 4),
            "ties": np.array(ties),
        },
        low=low,
        high=255,
        table=None,
        selection=Selection.ALL,
        k=0,
        survivor_zero=0,
    )


def compare(layer: LayerProgram) -> tuple[FloatKeys, np.ndarray]:
    """Proved kernels, and those whose keys are right for every sum."""
    found = prove(layer)
    least, most = layer.reach
    right = []
    for kernel in range(len(layer.weights)):
        sums = np.arange(least[kernel], most[kernel] + 1)
        fields = {name: field[kernel] for name, field in layer.parameters.items()}
        wanted = requantise(sums, **fields, low=layer.low, high=layer.high)
        shifted = sums + layer.corrections[kernel]
        keys = found.keys(np.tile(shifted, (len(layer.weights), 1)), layer.low, layer.high)
        right.append(np.array_equal(keys[kernel], wanted))
    return found, np.array(right)


@pytest.mark.slow
@pytest.mark.parametrize("zero", [0, 128, 255])
def test_what_is_proved_is_right(zero: int) -> None:
    rng = np.random.default_rng(zero)
    multiplier = rng.integers(1 << 27, 1 << 31, 40).tolist()
    offset = rng.integers(-(1 << 30), 1 << 34, 40).tolist()
    found, right = compare(program(multiplier, offset, [0] * 40, zero=zero, low=zero // 2))
    assert found.proved.mean() > 0.8
    assert right[found.proved].all()


@pytest.mark.parametrize("ties", [Ties.EVEN, Ties.ODD])
def test_ties_are_proved(ties: Ties) -> None:
    half = 1 << (40 - 1 - OFFSET_SHIFT)
    offsets = [half + i * half // 8 - (ties == Ties.ODD) for i in range(16)]
    found, right = compare(program([1 << 31] * 16, offsets, [int(ties)] * 16))
    assert found.proved.all()
    assert right.all()
    assert (found.lifts == (ties == Ties.ODD)).all()


def test_a_key_that_never_changes() -> None:
    found, right = compare(program([0, 0], [5 << 28, -(1 << 28)], [0, 0]))
    assert found.proved.all()
    assert right.all()


def test_wrong_keys_are_not_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trencadis_host.devices.cpu.rounding.NUDGES", 0)
    monkeypatch.setattr(
        "trencadis_host.devices.cpu.rounding._nearest",
        lambda layer: (np.full(2, 0.01, np.float32), np.zeros(2, np.float32)),
    )
    found, right = compare(program([1 << 31, 1 << 29], [0, 0], [0, 0]))
    assert not found.proved.any()
    assert not right.any()
