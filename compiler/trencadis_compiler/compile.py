"""The way from a model file to an overlay, step by step."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_boards import Board
from trencadis_compiler.assemble import assemble, output_format
from trencadis_compiler.calibration import CalibrationError, check_calibration
from trencadis_compiler.errors import CompileError
from trencadis_compiler.frontend import load_graph
from trencadis_compiler.graph import Graph
from trencadis_compiler.ir import Layer, Network
from trencadis_compiler.lower import check_operators, lower
from trencadis_compiler.passes.k_winners import find_k_winners
from trencadis_compiler.place import Placement, place
from trencadis_compiler.quantise import is_quantised, quantised_copy
from trencadis_compiler.reference import layer_output
from trencadis_compiler.report import make_report
from trencadis_compiler.schedule import Schedule, schedule
from trencadis_hw import abi
from trencadis_hw.config import KernelConfig
from trencadis_hw.container import InputError, InputFormat, OutputFormat, Overlay

__all__ = [
    "Compiled",
    "compile_model",
    "compile_network",
    "import_model",
    "input_format",
    "kernel_of",
    "quantised_model",
]

Array = npt.NDArray[Any]

PROFILE_WORDS = 64
"""Words that are enough to measure densities."""


@dataclass(frozen=True)
class Compiled:
    """A compiled network, and what it was compiled from."""

    overlay: Overlay
    network: Network
    placement: Placement
    schedule: Schedule


def import_model(path: Path, calibration: Array | None = None) -> Network:
    """The network of an ONNX file; see `quantised_model`."""
    with quantised_model(path, calibration) as (network, _):
        return network


@contextmanager
def quantised_model(path: Path, calibration: Array | None = None) -> Iterator[tuple[Network, Path]]:
    """The network of an ONNX file, and the file that has it quantised, gone after the context.

    Parameters
    ----------
    path : Path
        The file; itself what is yielded, if it is not of a float model.
    calibration : array, optional
        Inputs to quantise a float model with.

    Raises
    ------
    CompileError
        If the file is not a model that the overlay can run.
    CalibrationError
        If the calibration data are not the model's inputs.
    """
    graph = load_graph(path)
    if calibration is None or is_quantised(graph):
        yield _lowered(path, graph), path
        return
    with _named(path):
        check_operators(find_k_winners(graph))
        check_calibration(graph, calibration)
    with quantised_copy(path, graph, calibration) as copy:
        yield _lowered(path, load_graph(copy)), copy


def _lowered(path: Path, graph: Graph) -> Network:
    """The network a graph stands for, whatever is wrong with the graph."""
    with _named(path):
        try:
            return lower(find_k_winners(graph))
        except CompileError:
            raise
        except Exception as error:
            # Operators with missing inputs, attributes of a wrong type: a file may have anything.
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            raise CompileError(
                f"the ONNX graph is inconsistent ({reason}); export it again"
            ) from error


def compile_model(
    path: Path,
    board: Board,
    *,
    calibration: Array | None = None,
    input_nonzeros: int | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Compiled:
    """Compile an ONNX model for a board.

    Parameters
    ----------
    path : Path
        The model.
    board : Board
        What to compile for.
    calibration : array, optional
        Inputs, shape (words, ...): a float model is quantised with them, and the density of
        activations that are sparse by ReLU alone is measured on them.
    input_nonzeros : int, optional
        At most so many channels of an input position (of an input without positions: so many
        values) are not zero; the host then sends only those, with their indices.
    progress : callable
        Told about each step.

    Raises
    ------
    CompileError
        If the model cannot be run on the board's kernel.
    CalibrationError
        If the calibration data are not the model's inputs.
    """
    progress("reading the model")
    network = import_model(path, calibration)
    if input_nonzeros is not None:
        with _named(path):
            network = _with_sparse_input(network, board, input_nonzeros)
    density: Mapping[str, float] = {}
    if calibration is not None:
        progress("measuring activations")
        density = _densities(network, calibration)
    with _named(path):
        return compile_network(
            network, board, density=density, profiled=calibration is not None, progress=progress
        )


def compile_network(
    network: Network,
    board: Board,
    *,
    density: Mapping[str, float],
    profiled: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> Compiled:
    """Compile a network, wherever it comes from, for a board.

    Parameters
    ----------
    network : Network
        The network.
    board : Board
        What to compile for.
    density : mapping of str to float
        For layers whose activations are sparse by ReLU alone: the part that is not zero.
    profiled : bool
        The densities were measured.
    progress : callable
        Told about each step.

    Raises
    ------
    CompileError
        If the network cannot be run on the board's kernel.
    """
    kernel = kernel_of(board)
    progress("packing kernels into tiles")
    placement = place(network, kernel.core, density)
    progress("scheduling")
    plan = schedule(placement)
    progress("assembling the image")
    image = assemble(placement, plan, kernel)
    overlay = Overlay(
        name=network.name,
        kernel=kernel,
        image=image,
        input=input_format(network),
        output=_output_format(network, placement),
        report=make_report(placement, plan, kernel, board, len(image), profiled=profiled),
    )
    return Compiled(overlay, network, placement, plan)


def kernel_of(board: Board) -> KernelConfig:
    """The kernel of a board.

    Raises
    ------
    CompileError
        If its configuration is not possible.
    """
    try:
        return KernelConfig.from_dict(dict(board.kernel))
    except ValueError as error:
        raise CompileError(f"board {board.name!r}: [kernel]: {error}") from error


def _with_sparse_input(network: Network, board: Board, nonzeros: int) -> Network:
    """The network with an input of which only so many channels of a position are sent."""
    channels = network.layers[0].in_shape[0]
    if not 1 <= nonzeros <= channels:
        raise CompileError(
            f"an input position has {channels} channels; {nonzeros} of them cannot be not zero: "
            f"choose 1..{channels}"
        )
    if channels > 1 << abi.INPUT_INDEX_BITS:
        raise CompileError(
            f"an input position has {channels} channels; a sparse input may have "
            f"{1 << abi.INPUT_INDEX_BITS}: compile for a dense input, or use a narrower layer"
        )
    if not kernel_of(board).core.sparse_input:
        raise CompileError(
            f"the kernel of board {board.name!r} takes dense inputs only; choose one with "
            "sparse_input = true, or compile for a dense input"
        )
    return replace(network, input_nonzeros=nonzeros)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the file's name before an error."""
    try:
        yield
    except CompileError as error:
        raise CompileError(f"{path}: {error}") from error


def _densities(network: Network, inputs: Array) -> dict[str, float]:
    """The part of each layer's activations that is not zero, over (at most some) inputs."""
    try:
        keys = input_format(network).keys(inputs[:PROFILE_WORDS] if inputs.ndim else inputs)
    except InputError as error:
        raise CalibrationError(str(error)) from error
    _check_nonzeros(network, keys)
    activations = keys.transpose(0, 3, 1, 2).astype(np.int64)
    densities = {}
    for layer in network.layers[:-1]:
        activations = layer_output(layer, activations)
        assert layer.output is not None
        densities[layer.name] = float(np.mean(activations != layer.output.zero_key))
    return densities


def _check_nonzeros(network: Network, keys: Array) -> None:
    """Refuse data that cannot be usual inputs. Keys have shape (words, rows, columns, channels)."""
    nonzeros = (keys != network.layers[0].input.zero_key).sum(axis=3)
    if not nonzeros.any():
        raise CalibrationError(
            f"input {network.input.name!r} is zero in the first {len(keys)} words; give usual ones"
        )
    most, allowed = nonzeros.max(), network.input_nonzeros
    if allowed is not None and most > allowed:
        word = int(np.argmax(nonzeros.max(axis=(1, 2))))
        raise CalibrationError(
            f"input {network.input.name!r} has {most} values that are not zero at a position of "
            f"word {word}, more than the {allowed} of --input-nonzeros; allow {most}"
        )


def input_format(network: Network) -> InputFormat:
    """How the inputs of a network become keys."""
    first = network.layers[0]
    channels, rows, columns = first.in_shape
    return InputFormat(
        name=network.input.name,
        dtype=network.input.dtype,
        shape=network.input.shape,
        axes=network.input_axes,
        channels=channels,
        rows=rows,
        columns=columns,
        scale=float(first.input.scale),
        zero_key=first.input.zero_key,
        key_offset=first.input.key_offset,
        nonzeros=network.input_nonzeros or 0,
    )


def _output_format(network: Network, placement: Placement) -> OutputFormat:
    layout = output_format(placement)
    last = network.layers[-1]
    scales, offsets = _output_scales(last)
    quantisation = last.output
    return OutputFormat(
        name=network.output.name,
        dtype=network.output.dtype,
        shape=network.output.shape,
        axes=network.output_axes,
        channels=layout.channels,
        rows=layout.rows,
        columns=layout.columns,
        piece_bytes=layout.piece_bytes,
        pieces=layout.pieces,
        places=layout.places,
        order=layout.order,
        raw=layout.raw,
        integer=network.output_integer,
        scales=scales,
        offsets=offsets,
        zero_key=quantisation.zero_key if quantisation else 0,
        key_offset=quantisation.key_offset if quantisation else 0,
    )


def _output_scales(last: Layer) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if last.output is not None:
        return (float(last.output.scale),), ()
    scale = float(last.input.scale)
    return (
        tuple(scale * float(weight_scale) for weight_scale in last.weight_scale),
        tuple(float(bias) for bias in last.bias),
    )
