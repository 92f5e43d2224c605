"""Check that the program of a map engine stays inside its memories and ends."""

from collections.abc import Mapping

import numpy as np

from trencadis_format.config import KernelConfig
from trencadis_format.map_program import (
    MapProgram,
    map_reads,
    map_writes,
    multiplies,
    read_map_program,
    second_reads,
)
from trencadis_format.map_tables import MapMode

__all__ = ["check_map_program"]

MAX_SLOWDOWN = 16
"""Times as many cycles as the report tells that a program's reads may take."""

Layer = Mapping[str, int]


def check_map_program(
    image: bytes,
    kernel: KernelConfig,
    *,
    positions: int,
    channels: int,
    output_bytes: int,
    cycles_per_inference: float,
) -> None:
    """Check what an image tells a map engine to do.

    Parameters
    ----------
    image : bytes
        The device image, whose blocks fit their memories (`check_blocks`).
    kernel : KernelConfig
        The hardware.
    positions, channels : int
        Positions and channels of the input, by the manifest.
    output_bytes : int
        Bytes of an output sample without the padding to whole beats, by the manifest.
    cycles_per_inference : float
        Cycles of an inference on a core by the manifest's report.

    Raises
    ------
    ValueError
        If a layer asks for what is not there. One line.
    """
    program = read_map_program(image, kernel)
    config, feed = program.config, program.feed
    if (feed["rows"] + 1, feed["row_values"] + 1) != (positions, channels):
        raise ValueError("its input is another by its manifest than by its program")
    input_rows = positions * -(-channels // config.row_values)
    _check_range("the input", feed["address"], input_rows, config.map_rows)
    _check_range("the output", program.out_base, program.out_rows, config.map_rows)
    if program.out_rows * config.row_values != output_bytes:
        raise ValueError("its output is another by its manifest than by its program")
    if len(program.layers) > config.layers:
        raise ValueError(f"it has {len(program.layers)} layers, the engine takes {config.layers}")
    cycles = 0
    for number in range(len(program.layers)):
        try:
            cycles += _check_layer(program, number)
        except ValueError as error:
            raise ValueError(f"layer {number}: {error}") from error
    if cycles > MAX_SLOWDOWN * max(cycles_per_inference, 1.0):
        raise ValueError(
            f"it takes at least {cycles} cycles, its report tells {cycles_per_inference:g}"
        )


def _check_range(what: str, first: int, rows: int, depth: int) -> None:
    if first < 0 or first + rows > depth:
        raise ValueError(f"{what} is in rows {first} to {first + rows - 1} of {depth}")


def _check_layer(program: MapProgram, number: int) -> int:
    """Check a layer; the rows that it reads."""
    config, layer = program.config, program.layers[number]
    passes = layer["passes"] + 1
    reads = map_reads(layer)
    last = layer["passes"] * layer["pass_step"]
    used = reads.address[np.repeat(reads.inside[:, :, None], reads.address.shape[2], axis=2)]
    every = used[:, None] + np.array([0, last]) if used.size else np.zeros((0, 2), np.int64)
    if every.size:
        lowest, highest = int(every.min()), int(every.max())
        _check_range("what it reads", lowest, highest - lowest + 1, config.map_rows)
    written = map_writes(layer)
    _check_range("what it writes", int(written.min()), int(np.ptp(written)) + 1, config.map_rows)
    if np.unique(written).size != written.size:
        raise ValueError("it writes a row twice")
    seen = np.zeros(config.map_rows, bool)
    for turn in range(passes) if layer["pass_step"] else range(1):
        seen[used + turn * layer["pass_step"]] = True
    if layer["add"]:
        second = second_reads(layer)
        _check_range("its second map", int(second.min()), int(np.ptp(second)) + 1, config.map_rows)
        seen[second] = True
        add = program.adds[number]
        if add["low"] > add["high"]:
            raise ValueError("the bounds of its sums are the wrong way round")
    if seen[written].any():
        raise ValueError("it writes rows that it reads")
    if layer["use_table"] and layer["table"] >= config.tables:
        raise ValueError(f"it looks up table {layer['table']} of {config.tables}")
    if multiplies(layer):
        _check_sums(program, layer)
    elif layer["raw"] or layer["step_rows"] or layer["rows"]:
        raise ValueError(f"a layer of mode {MapMode.MAXIMUM.name} has a row per step")
    return reads.address.size * passes


def _check_sums(program: MapProgram, layer: Layer) -> None:
    """Check that weights and parameters of a layer are in their memories, and rows are whole."""
    config = program.config
    slots = (layer["kernel_h"] + 1) * (layer["kernel_w"] + 1)
    passes, beats = layer["passes"] + 1, layer["beats"] + 1
    if beats > config.kernels_per_tile:
        raise ValueError(f"{beats} kernels per tile, the engine takes {config.kernels_per_tile}")
    rows = beats * config.raw_rows if layer["raw"] else beats / config.row_beats
    if layer["step_rows"] + 1 != rows:
        raise ValueError(f"{beats} beats do not make {layer['step_rows'] + 1} rows")
    if (
        layer["row_weights"] != config.lane_values * (layer["depth"] + 1)
        or layer["slot_weights"] != (layer["rows"] + 1) * layer["row_weights"]
    ):
        raise ValueError("its weight rows are not those of its values")
    weights = passes * slots * layer["slot_weights"]
    _check_range("its weights", layer["weight_base"], weights, config.weight_rows)
    if not layer["raw"]:
        first, count = layer["requantise_base"], passes * beats
        _check_range("its parameters", first, count, config.requantise_rows)
    if layer["low"] > layer["high"]:
        raise ValueError("the bounds of its keys are the wrong way round")
