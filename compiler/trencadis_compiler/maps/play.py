"""Cycles of a map engine's layers on given maps, step by step: lanes, queues, banks, draining.

A step's products are known from the keys of its window. A lane begins a step after the one before,
when its first row has been fetched and its accumulator bank was drained; a step drains after its
last lane and after the step before it; the walk stops while the slowest lane's queue is full.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trencadis_compiler.maps.emit import layer_records
from trencadis_compiler.maps.place import MapPlacement
from trencadis_format.map_config import BANKS, MapConfig
from trencadis_format.map_program import map_reads, multiplies
from trencadis_format.overlay import Overlay
from trencadis_host.devices.maps.device import MapEmulator

__all__ = ["Played", "play"]

Rows = npt.NDArray[np.uint8]

FETCHED = 4
"""Cycles from a fetch until a lane can take the row."""

MULTIPLIED = 7
"""Cycles from a lane's last value until its step can be drained."""

FINISHED = 16
"""Cycles from the last beat until the layer has ended."""

HELD_STEPS = 3
"""Steps that the walk may be ahead of the slowest lane, as its queue is long."""


@dataclass(frozen=True)
class Played:
    """Cycles that given samples take.

    Attributes
    ----------
    cycles : tuple of float
        Cycles of every step of the network, mean of the samples.
    density : mapping of str to float
        The part of every map's keys that is not the key of zero.
    """

    cycles: tuple[float, ...]
    density: Mapping[str, float]


def play(placement: MapPlacement, overlay: Overlay, samples: Rows) -> Played:
    """Play the layers of a network on samples.

    Parameters
    ----------
    placement : MapPlacement
        The network.
    overlay : Overlay
        Its image.
    samples : uint8 array, shape (samples, overlay.input_bytes)
        Packed inputs.
    """
    network, config = placement.network, placement.config
    cycles: list[float] = []
    density: dict[str, float] = {}
    read = MapEmulator(overlay).memories(samples)
    for step, fields, memory in zip(network.steps, layer_records(placement), read, strict=True):
        if multiplies(fields):
            taken = [_multiply(fields, config, one) for one in memory]
        else:
            taken = [_move(fields)] * len(memory)
        cycles.append(sum(taken) / len(taken))
        value, address = network.values[step.source], placement.addresses[step.source]
        if value.quantisation is not None:
            _, rows, columns = value.shape
            first = address.base + np.arange(rows * columns) * address.step
            keys = memory[:, first[:, None] + address.places // config.row_values]
            places = np.broadcast_to(address.places % config.row_values, keys.shape[:-1])
            kept = np.take_along_axis(keys, places[..., None], axis=-1)
            density[step.source] = float((kept != value.quantisation.zero_key).mean())
    return Played(tuple(cycles), density)


def _move(fields: Mapping[str, int]) -> float:
    """Cycles of a layer that takes largest keys: one per position of every window."""
    inside = map_reads(fields).inside
    passes = fields["passes"] + 1
    added = len(inside) * (fields["step_rows"] + 1) * fields["add"]
    return passes * (inside.size + added) + FINISHED


def _multiply(fields: Mapping[str, int], config: MapConfig, memory: Rows) -> float:
    """Cycles of a layer on one sample's map memory, shape (rows, keys of a row)."""
    reads = map_reads(fields)
    rows = reads.address.shape[2]
    beats = (fields["beats"] + 1) * (config.raw_rows if fields["raw"] else 1)
    added = (fields["step_rows"] + 1) * fields["add"]
    fetches = reads.inside.sum(axis=1) * rows + (~reads.inside).sum(axis=1)
    done = np.zeros(config.lanes)
    steps = [done] * HELD_STEPS
    drained = [0.0] * BANKS
    fetched = 0.0
    for position, inside in enumerate(reads.inside):
        address = np.where(inside[:, None], reads.address[position], 0)
        for turn in range(fields["passes"] + 1):
            keys = memory[(address + turn * fields["pass_step"]) % len(memory)]
            present = (keys != fields["zero"]) & inside[:, None, None]
            values = present.reshape(-1, config.lane_values, config.lanes).sum(axis=1)
            # The last row takes a cycle even if it has nothing.
            work = values.sum(axis=0) * (fields["depth"] + 1) + (values[-1] == 0)
            begun = max(fetched, float(steps[-HELD_STEPS].max())) + added
            fetched = begun + int(fetches[position])
            done = np.maximum(np.maximum(done, begun + FETCHED + 1), drained[-BANKS]) + work
            done = np.maximum(done, fetched + FETCHED)
            steps = [*steps[1:], done]
            drained = [*drained[1:], max(float(done.max()) + MULTIPLIED, drained[-1]) + beats]
    return drained[-1] + FINISHED
