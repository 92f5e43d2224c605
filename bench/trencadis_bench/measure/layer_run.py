"""A single layer on RTL: after one that makes its lists, on an engine of its own."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trencadis_bench.measure.reference_run import SHORT_RUN, run_samples
from trencadis_boards import load_board
from trencadis_compiler.ir.kernels import Kernels
from trencadis_compiler.ir.network import (
    Layer,
    Network,
    Pool,
    Quantisation,
    TensorInfo,
    Value,
    Winners,
)
from trencadis_compiler.segments.segment import compile_network
from trencadis_format.compiled import CompiledNetwork
from trencadis_format.config import CoreConfig, EngineConfig, KernelConfig
from trencadis_format.layer_tables import Selection

__all__ = ["LayerRun", "layer_after_lists", "plain_layer", "run_layer"]

FRONT = EngineConfig(
    lanes=1,
    tiles=16,
    kernels_per_tile=2,
    routing="trees",
    requantisers=16,
    dense_values=1024,
    weight_rows=16,
    slot_rows=4,
    queue_beats=8,
    requantise_rows=64,
    reorder_rows=16,
    select_rows=8,
    layers=2,
)
"""Makes lists faster than the layers that are measured read them."""

SAMPLES = SHORT_RUN + 4


@dataclass(frozen=True)
class LayerRun:
    """A layer's cycles.

    Attributes
    ----------
    planned, simulated : float
        Cycles from sample to sample; a few more than the layer's own.
    outputs_equal : bool
        Outputs are those of the emulator.
    """

    planned: float
    simulated: float
    outputs_equal: bool


def layer_after_lists(
    weights: npt.NDArray[np.int8], side: int, winners: int, seed: int = 0
) -> Network:
    """A 1x1 convolution with k-WTA, and after it a layer of the given weights.

    Parameters
    ----------
    weights : int8 array, shape (kernels, channels, rows, columns)
        Weights of the layer.
    side : int
        Rows and columns of its input map.
    winners : int
        Activations of a list; all channels if as many.
    seed : int
        Seed of the weights of the first layer.
    """
    channels = weights.shape[1]
    rng = np.random.default_rng(seed)
    front = _layer("front", rng.integers(1, 128, (channels, 1, 1, 1)).astype(np.int8), side)
    # All that is positive survives if k is the number of channels; values are never zero.
    front = replace(front, winners=Winners(winners, Selection.EXACT, whole=False), low=1)
    layer = _layer("layer", weights, side)
    return chain_of("layer", front, layer)


def chain_of(name: str, *layers: Layer) -> Network:
    """A network of layers that read each other's maps of bytes, in order."""
    shapes = [layers[0].in_shape, *(layer.out_shape for layer in layers)]
    quantisations = [layers[0].input, *(layer.output for layer in layers)]
    values = tuple(
        Value(f"map{i}", shape, how, TensorInfo(f"map{i}", (None, *shape), "uint8"), "CHW")
        for i, (shape, how) in enumerate(zip(shapes, quantisations, strict=True))
    )
    return Network(
        name=name,
        values=values,
        layers=tuple(
            replace(layer, source=f"map{i}", target=f"map{i + 1}") for i, layer in enumerate(layers)
        ),
        inputs=(values[0].name,),
        outputs=(values[-1].name,),
    )


def _layer(name: str, weights: npt.NDArray[np.int8], side: int) -> Layer:
    # Sums of a whole window seldom leave the bytes; powers of two leave nothing to be rounded.
    products = max(1, int(np.count_nonzero(weights)) // len(weights) // 4)
    scale = Fraction(1, 1 << (256 * products - 1).bit_length())
    return plain_layer(name, weights, side, scale)


def plain_layer(name: str, weights: npt.NDArray[np.int8], side: int, scale: Fraction) -> Layer:
    """A convolution of bytes to bytes, with nothing before or after it.

    Parameters
    ----------
    name : str
        Name of the layer.
    weights : int8 array, shape (kernels, channels, rows, columns)
        Kernels.
    side : int
        Rows and columns of the input map.
    scale : Fraction
        Scale of all weights.
    """
    byte = Quantisation(np.float32(1), 0, signed=False)
    kernels, channels = weights.shape[:2]
    return Layer(
        name=name,
        source="x",
        target="y",
        weights=Kernels.of(weights),
        weight_scale=(scale,) * kernels,
        bias=(Fraction(0),) * kernels,
        stride=(1, 1),
        dilation=(1, 1),
        padding=(0, 0, 0, 0),
        in_shape=(channels, side, side),
        input=byte,
        low=0,
        high=255,
        requantised=byte,
        table=None,
        output=byte,
        pool=Pool(),
        winners=None,
    )


def run_layer(
    network: Network,
    engine: EngineConfig,
    folder: Path,
    *,
    build_dir: Path | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> LayerRun:
    """Run the second layer of a network on an engine's RTL.

    Parameters
    ----------
    network : Network
        What `layer_after_lists` made.
    engine : EngineConfig
        Engine for the second layer.
    folder : Path
        Folder for the image.
    build_dir, progress
        As in `run_samples`.
    """
    core = CoreConfig(engines=(FRONT, replace(engine, dense_values=0)))
    board = replace(load_board("sim"), kernel=KernelConfig(core=core))
    compiled = compile_network(network, board, density={})
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / f"{network.name}.tcd"
    CompiledNetwork.of_overlay(compiled.overlay).save(image)
    run = run_samples(image, SAMPLES, build_dir=build_dir, progress=progress)
    return LayerRun(compiled.schedule.period, run.cycles_per_inference, run.outputs_equal)
