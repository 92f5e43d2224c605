"""Random small networks, and kernels small enough that Verilator builds them in seconds."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from trencadis_compiler.assemble import assemble
from trencadis_compiler.compile import _output_format, input_format
from trencadis_compiler.ir import Layer, Network, Pool, Quantisation, TensorInfo, Winners
from trencadis_compiler.place import place
from trencadis_compiler.reference import layer_output, layer_sums
from trencadis_compiler.schedule import Schedule, schedule
from trencadis_host.packing import pack_inputs
from trencadis_hw import abi
from trencadis_hw.config import CoreConfig, EngineConfig, KernelConfig
from trencadis_hw.container import Overlay
from trencadis_sim.verify import reference_words

Words = npt.NDArray[np.uint8]

BUILD_DIR = Path("build/sim")
"""Where simulators are kept, so that they are built once, not once a run of the tests."""

ENGINE: dict[str, Any] = {
    "tiles": 2,
    "kernels": 4,
    "dense_values": 1024,
    "list_entries": 512,
    "weight_rows": 512,
    "slot_rows": 64,
    "queue_beats": 16,
    "requantisers": 2,
    "requantise_rows": 128,
    "reorder_rows": 64,
    "select_rows": 8,
    "whole_rows": 128,
    "tables": 2,
}


def engine(**fields: Any) -> EngineConfig:
    """A small engine, with what is to be different."""
    return EngineConfig(**(ENGINE | fields))


KERNELS = {
    "groups": KernelConfig(
        core=CoreConfig(engines=(engine(lanes=6, groups=2),), sparse_input=True), bus_bits=64
    ),
    "trees-lockstep": KernelConfig(
        core=CoreConfig(
            engines=(engine(lanes=4, routing="trees", requantisers=4),),
            sparse_input=True,
            words=2,
        ),
        bus_bits=128,
    ),
    "split-trees": KernelConfig(
        core=CoreConfig(
            engines=(engine(lanes=6, kernels=2, routing="split-trees"),), sparse_input=True
        ),
        bus_bits=64,
    ),
    "cores-chained": KernelConfig(
        core=CoreConfig(
            engines=(
                engine(lanes=3),
                engine(lanes=5, dense_values=0),
            ),
            sparse_input=True,
        ),
        cores=2,
        bus_bits=64,
    ),
}


NO_POOL = Pool()


@dataclass(frozen=True)
class LayerSpec:
    """What a random layer is to be like; a window of None covers the whole map."""

    channels: int
    window: tuple[int, int] | None = None
    density: float = 0.3
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    pool: Pool = NO_POOL
    signed: bool = True
    zero_point: int | None = None
    winners: Winners | None = None
    table: bool = False
    raw: bool = False
    positive: bool = False
    """Its activations are one step at least."""


@dataclass(frozen=True)
class NetworkSpec:
    """A random network: its input map and its layers.

    `powers_of_two` is what scales are, so that sums are exactly between two keys.
    """

    shape: tuple[int, int, int]
    layers: tuple[LayerSpec, ...]
    signed: bool = True
    zero_point: int = 0
    input_nonzeros: int | None = None
    powers_of_two: bool = False


@dataclass(frozen=True)
class Case:
    """A network compiled for a kernel, with input words and the output words they must give."""

    network: Network
    overlay: Overlay
    schedule: Schedule
    inputs: Words
    expected: Words


def random_layer(
    spec: LayerSpec,
    name: str,
    shape: tuple[int, int, int],
    source: Quantisation,
    keys: npt.NDArray[np.int64],
    rng: np.random.Generator,
    *,
    powers_of_two: bool,
) -> Layer:
    """A layer whose keys are spread over their range for typical input `keys`."""
    window = spec.window or shape[1:]
    weights = rng.integers(-127, 128, (spec.channels, shape[0], *window)).astype(np.int8)
    weights[rng.random(weights.shape) >= spec.density] = 0
    scale = rng.uniform(0.001, 0.01, spec.channels).astype(np.float32)
    if powers_of_two:
        scale = np.exp2(np.rint(np.log2(scale)))
    bias = rng.integers(-500, 500, spec.channels).tolist()
    steps = [source.exact_scale * Fraction(float(step)) for step in scale]

    def layer(output: Quantisation | None, table: npt.NDArray[np.uint8] | None = None) -> Layer:
        sparse = spec.winners is not None or spec.zero_point is None
        return Layer(
            name=name,
            weights=weights,
            weight_scale=tuple(Fraction(float(step)) for step in scale),
            bias=tuple(value * step for value, step in zip(bias, steps, strict=True)),
            stride=spec.stride,
            dilation=spec.dilation,
            padding=spec.padding,
            in_shape=shape,
            input=source,
            # ReLU: no key below that of zero.
            low=output.zero_key + spec.positive if output and sparse else 0,
            high=255,
            requantised=output,
            table=table,
            output=output,
            pool=spec.pool,
            winners=spec.winners,
        )

    if spec.raw:
        return layer(None)
    real = layer_sums(layer(None), keys) * np.array([float(step) for step in steps])[:, None, None]
    zero_point = spec.zero_point
    if zero_point is None:
        zero_point = -128 if spec.signed else 0
    step = real.std() / 50
    if powers_of_two:
        step = np.exp2(np.rint(np.log2(step)))
    output = Quantisation(np.float32(step), zero_point, spec.signed)
    table = None
    if spec.table:
        # Any function of keys that never decreases and keeps zero.
        table = np.sort(rng.integers(0, 256, 256)).astype(np.uint8)
        table[: output.zero_key + 1] = output.zero_key
    return layer(output, table)


def random_network(spec: NetworkSpec, seed: int) -> Network:
    """A network as a specification says, the same for the same seed."""
    rng = np.random.default_rng(seed)
    scale = 2**-6 if spec.powers_of_two else 0.02
    source = Quantisation(np.float32(scale), spec.zero_point, spec.signed)
    first, shape = source, spec.shape
    keys = rng.integers(0, 256, (16, *shape))
    layers: list[Layer] = []
    for i, layer_spec in enumerate(spec.layers):
        name = f"layer{i}"
        layers.append(
            random_layer(
                layer_spec, name, shape, source, keys, rng, powers_of_two=spec.powers_of_two
            )
        )
        keys = layer_output(layers[-1], keys)
        shape = layers[-1].out_shape
        if layers[-1].output is not None:
            source = layers[-1].output
    integer = {True: "int8", False: "uint8"}
    return Network(
        name="random",
        input=TensorInfo("x", (None, *spec.shape), integer[first.signed]),
        output=TensorInfo("y", (None, *shape), "float32" if layers[-1].output is None else "int8"),
        input_axes="CHW",
        output_axes="CHW",
        output_integer=layers[-1].output is not None,
        layers=tuple(layers),
        input_nonzeros=spec.input_nonzeros,
    )


def compile_for(network: Network, kernel: KernelConfig) -> tuple[Overlay, Schedule]:
    """An overlay without report, and the schedule."""
    placement = place(network, kernel.core, {})
    plan = schedule(placement)
    overlay = Overlay(
        name=network.name,
        kernel=kernel,
        image=assemble(placement, plan, kernel),
        input=input_format(network),
        output=_output_format(network, placement),
        report={},
    )
    return overlay, plan


def _sparsened(
    keys: npt.NDArray[np.int64], zero_key: int, nonzeros: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Keys of which at most `nonzeros` channels of a position are not zero; often fewer."""
    rank = rng.random(keys.shape).argsort(axis=1).argsort(axis=1)
    kept = rng.integers(0, nonzeros + 1, (len(keys), 1, *keys.shape[2:]))
    kept[::2] = nonzeros
    return np.where(rank < kept, keys, zero_key)


@pytest.fixture
def make_case() -> Callable[..., Case]:
    """Compile a random network for one of the kernels, and compute what some words must give."""

    def make(spec: NetworkSpec, kernel: str, *, words: int, seed: int = 1) -> Case:
        network = random_network(spec, seed)
        overlay, plan = compile_for(network, KERNELS[kernel])
        rng = np.random.default_rng(seed + 1)
        keys = rng.integers(0, 256, (words, *spec.shape))
        if spec.input_nonzeros is not None:
            keys = _sparsened(keys, overlay.input.zero_key, spec.input_nonzeros, rng)
        integers = (keys - overlay.input.key_offset).astype(overlay.input.dtype)
        inputs = pack_inputs(overlay, integers)
        return Case(network, overlay, plan, inputs, reference_words(network, overlay, keys))

    return make


@pytest.fixture(scope="session")
def build_dir() -> Path:
    """Where simulators are kept."""
    return BUILD_DIR


def k_winners(k: int, *, whole: bool = False, threshold: bool = False) -> Winners:
    """Local or global k-WTA."""
    selection = abi.Selection.THRESHOLD if threshold else abi.Selection.EXACT
    return Winners(k, selection, whole)


def network(shape: tuple[int, int, int], *layers: LayerSpec, **fields: Any) -> NetworkSpec:
    """A network as a specification."""
    return NetworkSpec(shape, tuple(layers), **fields)


def random_network_spec(seed: int) -> NetworkSpec:
    """Convolutions with k-WTA, and a layer over the whole map behind them."""
    rng = random.Random(seed)
    channels, side = rng.randint(1, 3), rng.randint(6, 9)
    shape, size = (channels, side, side), side
    layers: list[LayerSpec] = []
    for _ in range(rng.randint(1, 3)):
        window, channels = rng.randint(1, min(3, size)), rng.randint(3, 12)
        size -= window - 1
        pool = NO_POOL
        if size >= 4 and rng.random() < 0.4:
            pool, size = Pool((2, 2), (2, 2)), size // 2
        density = rng.choice([0.2, 0.3, 0.6, 1.0])
        k = k_winners(rng.randint(1, channels))
        layers.append(LayerSpec(channels, (window, window), density, pool=pool, winners=k))
    last = LayerSpec(rng.randint(2, 20), density=rng.choice([0.2, 0.5, 1.0]))
    return network(shape, *layers, last)


NETWORKS: dict[str, NetworkSpec] = {
    "exact-winners": network(
        (1, 9, 8),
        LayerSpec(8, (3, 3), padding=(1, 1, 1, 1), pool=Pool((2, 2), (2, 2)), winners=k_winners(2)),
        LayerSpec(6, None, zero_point=3),
        zero_point=-7,
    ),
    "threshold-winners": network(
        (2, 6, 7),
        LayerSpec(12, (3, 2), winners=k_winners(3, threshold=True), signed=False),
        LayerSpec(4, None, zero_point=0),
        signed=False,
        zero_point=128,
    ),
    "whole-layer-winners": network(
        (1, 6, 6),
        LayerSpec(24, None, density=0.5, winners=k_winners(5, whole=True)),
        LayerSpec(5, None, raw=True),
    ),
    "relu-stride-dilation": network(
        (3, 9, 11),
        LayerSpec(5, (3, 3), stride=(2, 1), dilation=(1, 2), padding=(1, 2, 0, 1)),
        LayerSpec(7, (2, 2), pool=Pool((2, 2), (1, 2)), signed=False),
        LayerSpec(3, None, raw=True),
        zero_point=-128,
    ),
    "dense-weights": network(
        (1, 4, 4),
        LayerSpec(8, None, density=1.0),
        LayerSpec(4, None, density=1.0, zero_point=-5),
        zero_point=20,
    ),
    "sparse-map": network(
        (6, 7, 6),
        LayerSpec(8, (3, 3), padding=(1, 0, 2, 1), stride=(2, 1), winners=k_winners(2)),
        LayerSpec(4, None, zero_point=3),
        zero_point=-20,
        input_nonzeros=2,
    ),
    "sparse-vector": network(
        (90, 1, 1),
        LayerSpec(20, None, winners=k_winners(4)),
        LayerSpec(5, None, raw=True),
        signed=False,
        input_nonzeros=11,
    ),
    "never-zero": network(
        (2, 7, 6),
        LayerSpec(6, (2, 2), pool=Pool((2, 2), (2, 2)), positive=True),
        LayerSpec(9, (2, 2), padding=(1, 0, 1, 1), positive=True),
        LayerSpec(4, None, raw=True),
    ),
    "never-zero-wide": network(
        (2, 7, 6), LayerSpec(12, (2, 2), positive=True), LayerSpec(4, None, raw=True)
    ),
    "short-words": network(
        (90, 1, 1),
        LayerSpec(48, None),
        LayerSpec(5, None, raw=True),
        signed=False,
        input_nonzeros=11,
    ),
    "one-beat-words": network(
        (16, 1, 1), LayerSpec(4, None, winners=k_winners(2)), LayerSpec(4, None, raw=True)
    ),
    "ties-to-odd-keys": network(
        (2, 5, 5),
        LayerSpec(6, (2, 2), zero_point=-127, winners=k_winners(3)),
        LayerSpec(4, (2, 2), zero_point=-3),
        powers_of_two=True,
    ),
    "table": network(
        (2, 5, 5),
        LayerSpec(6, (2, 2), table=True, winners=k_winners(3)),
        LayerSpec(4, (2, 2), zero_point=-10, table=False),
    ),
}


@pytest.fixture(params=sorted(NETWORKS))
def spec(request: pytest.FixtureRequest) -> NetworkSpec:
    """Every kind of network in turn."""
    return NETWORKS[request.param]


@pytest.fixture(params=sorted(KERNELS))
def kernel(request: pytest.FixtureRequest) -> str:
    """Every kernel in turn."""
    return request.param


@pytest.fixture
def random_spec() -> Callable[[int], NetworkSpec]:
    """A random network for every seed."""
    return random_network_spec


@pytest.fixture
def specs() -> dict[str, NetworkSpec]:
    """The networks by name."""
    return NETWORKS
