"""Compiled networks against the emulator, layer by layer, on random layers of every kind."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from trencadis_format.layer_tables import Selection, Ties
from trencadis_format.widths import OFFSET_SHIFT, SHIFT_BASE, SHIFT_STEP
from trencadis_host.devices.cpu.costs import DEFAULT_COSTS, Costs
from trencadis_host.devices.cpu.network import Network, SampleForm
from trencadis_host.devices.cpu.paths import Path, runnable_paths
from trencadis_host.devices.cpu.programs import lower_layers
from trencadis_host.devices.emulator.decode import DecodedInput, DecodedLayer
from trencadis_host.devices.emulator.device import compute_layer

Array = npt.NDArray[Any]


@pytest.fixture(params=runnable_paths(), ids=lambda path: path.name)
def path(request: pytest.FixtureRequest) -> Path:
    """Every path in turn."""
    return request.param


def padded(maps: Array, width: int, first: int) -> Array:
    """Values at the positions of a padded map."""
    samples, rows, columns, channels = maps.shape
    top = first // width
    height = rows + top + max(top, width - columns) + 1
    flat = np.zeros((samples, height * width, channels), np.int64)
    at = first + np.arange(rows)[:, None] * width + np.arange(columns)
    flat[:, at.ravel()] = maps.reshape(samples, -1, channels)
    return flat


def random_layers(rng: np.random.Generator) -> tuple[DecodedInput, list[DecodedLayer]]:
    """A chain of one to three layers: windows, strides, pools, groups, ties, tables, winners."""
    rows, columns = rng.integers(1, 14, 2).tolist()
    channels = int(rng.choice([1, 2, 3, 5, 16, 24, 70]))
    pad = int(rng.integers(0, 2))
    source = DecodedInput(
        rows=rows,
        columns=columns,
        channels=channels,
        width=columns + pad,
        first=pad * (columns + pad) + pad,
        zero=int(rng.choice([0, 128, 7, 255])),
        sparse=False,
    )
    layers: list[DecodedLayer] = []
    width, first, zero = source.width, source.first, source.zero
    count = int(rng.integers(1, 4))
    for number in range(count):
        last = number == count - 1
        layer = random_layer(rng, rows, columns, channels, width, first, zero, last=last)
        layers.append(layer)
        rows, columns = layer.origins.shape[:2]
        channels, width, first, zero = len(layer.weights), layer.width, layer.first, layer.zero
    return source, layers


def random_layer(
    rng: np.random.Generator,
    rows: int,
    columns: int,
    channels: int,
    width: int,
    first: int,
    zero: int,
    *,
    last: bool,
) -> DecodedLayer:
    pad = int(width > columns)
    window = [int(rng.integers(1, min(4, size + 2 * pad) + 1)) for size in (rows, columns)]
    stride = rng.integers(1, 3, 2).tolist()
    room = [
        (size + 2 * pad - w) // s + 1
        for size, w, s in zip((rows, columns), window, stride, strict=True)
    ]
    pool = [int(rng.integers(1, min(3, size) + 1)) for size in room]
    pool_stride = [int(rng.integers(1, p + 1)) for p in pool]
    sizes = [(r - p) // s + 1 for r, p, s in zip(room, pool, pool_stride, strict=True)]
    outputs = int(rng.choice([1, 3, 8, 17, 32, 70, 300]))
    begin = first - pad * width - pad
    y, x, py, px = (np.arange(n) for n in (*sizes, *pool))
    origins = (
        begin
        + (y * pool_stride[0])[:, None, None, None] * stride[0] * width
        + (x * pool_stride[1])[:, None, None] * stride[1]
        + py[:, None] * stride[0] * width
        + px * stride[1]
    ).reshape(*sizes, -1)
    offsets = (np.arange(window[0])[:, None] * width + np.arange(window[1])).ravel()
    offsets = rng.permutation(offsets)
    weights = rng.integers(-127, 128, (outputs, len(offsets), channels))
    if rng.random() < 0.2:
        weights[:] = rng.choice([-128, 127], weights.shape)
    weights[rng.random(weights.shape) > rng.choice([0.02, 0.1, 0.3, 1.0])] = 0
    if rng.random() < 0.2:  # depthwise
        group = np.arange(outputs)[:, None] % channels == np.arange(channels)
        weights = np.where(group[:, None], weights, 0)
    next_pad = int(rng.integers(0, 2))
    fields: dict[str, Any] = {"width": 0, "first": 0}
    if not last:
        next_width = sizes[1] + next_pad
        fields = {"width": next_width, "first": next_pad * next_width + next_pad}
    raw = last and rng.random() < 0.4
    spread = max(1.0, float(np.abs(weights).sum(axis=(1, 2)).mean()) * 255 / 16)
    multiplier = np.ldexp(1.0, 40) * 50 / spread * rng.uniform(0.2, 3, outputs)
    if rng.random() < 0.4:
        multiplier = np.exp2(np.rint(np.log2(multiplier)))  # exact ties
    shift = np.full(outputs, (40 - SHIFT_BASE) // SHIFT_STEP)
    while (large := multiplier >= 2**32).any():
        multiplier = np.where(large, multiplier / 16, multiplier)
        shift = np.where(large, shift - 1, shift)
    bits = SHIFT_BASE + SHIFT_STEP * shift
    ties = rng.integers(0, 3, outputs)
    centre = rng.integers(-20, 150, outputs) + 0.5
    added = (centre * np.exp2(bits - OFFSET_SHIFT)).astype(np.int64)
    low = int(rng.choice([0, 0, 10, 128]))
    selection = Selection(int(rng.integers(0, 3)))
    table = rng.integers(0, 256, 256) if rng.random() < 0.3 else None
    parameters = {
        "multiplier": multiplier.astype(np.int64) * (rng.random(outputs) > 0.05),
        "offset": added - (ties == Ties.ODD),
        "shift": shift.astype(np.int64),
        "ties": ties,
    }
    return DecodedLayer(
        weights=weights,
        offsets=offsets,
        origins=origins,
        sum_bits=24 if rng.random() < 0.8 else 13,
        parameters={} if raw else parameters,
        low=low,
        high=int(rng.choice([255, 255, 200])),
        table=None if raw else table,
        selection=Selection.ALL if raw else selection,
        k=int(rng.integers(1, outputs + 1)),
        zero=int(rng.choice([0, 128, 3])),
        **fields,
    )


def emulate(source: DecodedInput, layers: list[DecodedLayer], keys: Array) -> Array:
    """Outputs of the emulator, shape (samples, positions, outputs)."""
    values = padded(keys.astype(np.int64) - source.zero, source.width, source.first)
    outputs = values
    for layer in layers:
        outputs = compute_layer(layer, values)
        if layer.width:
            values = padded(outputs - layer.zero, layer.width, layer.first)
    return outputs.reshape(len(keys), -1, outputs.shape[-1])


def computed(
    source: DecodedInput,
    layers: list[DecodedLayer],
    keys: Array,
    path: Path,
    block: int,
    costs: Costs = DEFAULT_COSTS,
) -> Array:
    """Outputs of the compiled network."""
    return outputs_of(compiled(source, layers, path, block, costs), layers, keys)


def compiled(
    source: DecodedInput, layers: list[DecodedLayer], path: Path, block: int, costs: Costs
) -> Network:
    """The network, for packed samples."""
    size = layers[-1].origins[..., 0].size * len(layers[-1].weights) * (4 if layers[-1].raw else 1)
    inputs = source.rows * source.columns * source.channels
    form = SampleForm(inputs, size, len(layers[-1].weights))
    return Network(lower_layers(source, layers), form, path, block, costs=costs)


def outputs_of(network: Network, layers: list[DecodedLayer], keys: Array) -> Array:
    """What a compiled network computes, shape (samples, positions, outputs)."""
    raw, outputs = layers[-1].raw, len(layers[-1].weights)
    positions = layers[-1].origins[..., 0].size
    samples = np.ascontiguousarray(keys.reshape(len(keys), -1))
    results = np.zeros((len(keys), positions * outputs * (4 if raw else 1)), np.uint8)
    workspace = network.workspace()
    network.run(samples.ctypes.data, results.ctypes.data, len(keys), workspace.ctypes.data)
    return results.view("<i4" if raw else np.uint8).reshape(len(keys), positions, outputs)


def few_fast(seeds: range, fast: int) -> list[Any]:
    """Seeds of which all but the first few are slow."""
    rest = (pytest.param(seed, marks=pytest.mark.slow) for seed in seeds[fast:])
    return [*seeds[:fast], *rest]


@pytest.mark.parametrize("seed", few_fast(range(12), 4))
def test_equals_the_emulator(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, layers = random_layers(rng)
    shape = (19, source.rows, source.columns, source.channels)
    keys = rng.integers(0, 256, shape).astype(np.uint8)
    keys[:4] = np.array([0, 255, 1, source.zero]).reshape(4, 1, 1, 1)
    keys[4:8] = rng.integers(0, 3, (4, *shape[1:]))
    block = int(rng.choice([1, 4, 16]))
    outputs = computed(source, layers, keys, path, block)
    assert np.array_equal(outputs, emulate(source, layers, keys))


SAMPLE_LANES = Costs(dense=0.7, group=0.0, kernel=0.0)
"""Costs with which every layer that can has samples in lanes."""

SAMPLE_PATHS = [path for path in runnable_paths() if path.sample_lanes]


@pytest.mark.parametrize("seed", few_fast(range(100, 124), 4))
def test_samples_in_lanes_equal_the_emulator(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, layers = random_layers(rng)
    shape = (int(rng.choice([9, 16, 27])), source.rows, source.columns, source.channels)
    keys = rng.integers(0, 256, shape).astype(np.uint8)
    keys[:4] = np.array([0, 255, 1, source.zero]).reshape(4, 1, 1, 1)
    keys[4:6] = rng.choice([0, 255], (2, *shape[1:]))
    for path in SAMPLE_PATHS:
        outputs = computed(source, layers, keys, path, 16, SAMPLE_LANES)
        assert np.array_equal(outputs, emulate(source, layers, keys))


TILES = Costs(dense=0.7, tile=0.0)
"""Costs with which every layer is computed by tiles, where there are any."""

TILE_PATHS = [path for path in runnable_paths() if path.tiles]


@pytest.mark.parametrize("seed", range(200, 240))
def test_tiles_equal_the_emulator(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, layers = random_layers(rng)
    shape = (int(rng.choice([1, 3, 16, 27])), source.rows, source.columns, source.channels)
    keys = rng.integers(0, 256, shape).astype(np.uint8)
    keys[:1] = rng.choice([0, 255, source.zero])
    for path in TILE_PATHS:
        outputs = computed(source, layers, keys, path, int(rng.choice([1, 4, 16])), TILES)
        assert np.array_equal(outputs, emulate(source, layers, keys))


COLUMNS = Costs(dense=0.7, column=0.0)
"""Costs with which a sample alone takes the columns of its winners, where they are known."""


@pytest.mark.parametrize("seed", range(300, 310))
def test_columns_of_winners_equal_the_emulator(path: Path, seed: int) -> None:
    """A layer that selects, and one that reads all positions of its map at once."""
    rng = np.random.default_rng(seed)
    source = DecodedInput(5, 4, 9, 4, 0, int(rng.choice([0, 128, 255])), False)
    chosen = random_layer(rng, 5, 4, 9, 4, 0, source.zero, last=False)
    selection = Selection.EXACT if seed % 2 else Selection.THRESHOLD
    chosen = replace(chosen, selection=selection)
    rows, columns = chosen.origins.shape[:2]
    outputs = len(chosen.weights)
    width, first, zero = chosen.width, chosen.first, chosen.zero
    layer = random_layer(rng, rows, columns, outputs, width, first, zero, last=True)
    places = np.arange(rows)[:, None] * width + np.arange(columns)
    weights = rng.integers(-128, 128, (len(layer.weights), places.size, outputs))
    weights[rng.random(weights.shape) > 0.7] = 0
    layer = replace(
        layer, weights=weights, offsets=places.ravel(), origins=np.full((1, 1, 1), first)
    )
    keys = rng.integers(0, 256, (4, 5, 4, 9)).astype(np.uint8)
    network = compiled(source, [chosen, layer], path, 4, COLUMNS)
    assert [choice.winner_columns for choice in network.choices] == [False, True]
    for part in [*np.split(keys, len(keys)), keys]:  # alone, and all of them
        found = outputs_of(network, [chosen, layer], part)
        assert np.array_equal(found, emulate(source, [chosen, layer], part))


@pytest.mark.parametrize("costs", [Costs(dense=0.0), TILES, SAMPLE_LANES])
def test_weights_that_meet_the_same_byte(path: Path, costs: Costs) -> None:
    """A window is wider than a padded row: its last column is the next row's first."""
    rng = np.random.default_rng(5)
    source = DecodedInput(4, 1, 20, 2, 3, 7, False)
    layer = random_layer(rng, 4, 1, 20, 2, 3, 7, last=True)
    layer = replace(
        layer,
        weights=rng.integers(-9, 10, (len(layer.weights), 9, 20)),
        offsets=(np.arange(3)[:, None] * 2 + np.arange(3)).ravel(),
        origins=np.arange(4).reshape(4, 1, 1) * 2,
        sum_bits=24,
    )
    keys = rng.integers(0, 256, (16, 4, 1, 20)).astype(np.uint8)
    outputs = computed(source, [layer], keys, path, 16, costs)
    assert np.array_equal(outputs, emulate(source, [layer], keys))


@pytest.mark.parametrize("weight", [-128, 127])
def test_many_groups_with_samples_in_lanes(weight: int) -> None:
    """Sums of more groups than two halves of 16 bits hold, at both ends."""
    rng = np.random.default_rng(3)
    source = DecodedInput(1, 1, 2000, 1, 0, 0, False)
    layer = random_layer(rng, 1, 1, 2000, 1, 0, 0, last=False)
    weights = np.full((len(layer.weights), 1, 2000), weight)
    weights[: len(weights) // 2] = rng.choice([-128, 127, 64, -64, 1, 0], weights[0].shape)
    layer = replace(layer, weights=weights, width=0, sum_bits=28, table=None)
    keys = np.full((16, 1, 1, 2000), 255, np.uint8)
    keys[8:] = rng.integers(0, 256, keys[8:].shape)
    for path in SAMPLE_PATHS:
        outputs = computed(source, [layer], keys, path, 16, SAMPLE_LANES)
        assert np.array_equal(outputs, emulate(source, [layer], keys))


def test_windows_may_go_on_below_the_map(path: Path) -> None:
    rng = np.random.default_rng(7)
    source = DecodedInput(4, 4, 20, 4, 0, 128, False)
    layer = random_layer(rng, 4, 4, 20, 4, 0, 128, last=True)
    layer = replace(
        layer,
        weights=rng.integers(-9, 10, (len(layer.weights), 2, 20)),
        offsets=np.array([0, 5]),
        origins=np.array([[[3, 90, 17]]]),
        sum_bits=24,
    )
    keys = rng.integers(0, 256, (5, 4, 4, 20)).astype(np.uint8)
    outputs = computed(source, [layer], keys, path, 2)
    assert np.array_equal(outputs, emulate(source, [layer], keys))
