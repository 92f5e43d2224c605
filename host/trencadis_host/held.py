"""Traces: what devices and the host hold after each layer and segment, as the model's tensors."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_format.compiled import CompiledNetwork, HostSegment, OverlaySegment
from trencadis_format.overlay import Overlay
from trencadis_format.tensor_formats import MapFormat
from trencadis_format.tensors import pack_inputs, unpack_outputs
from trencadis_host.devices.emulator.device import Emulator
from trencadis_host.devices.maps.device import MapEmulator
from trencadis_host.devices.protocol import Statistics
from trencadis_host.segments import SegmentExecutor

__all__ = ["held_tensors", "host_tensors", "twice_made", "watch_layers"]

Array = npt.NDArray[Any]

Seen = Callable[[OverlaySegment, int, MapFormat, Array], None]
"""Called with a segment, the number of a layer in it, its map's format, and the map as its tensor
of the model: keys, uint8 or wider, shape (samples, ...)."""


def held_tensors(network: CompiledNetwork, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Compute a network, overlay segments on the emulator, and keep what is held.

    Parameters
    ----------
    network : CompiledNetwork
        The network, whose segments say what tensors of the file their maps are.
    inputs : mapping of str to array, shape (samples, ...)
        Inputs as the model's inputs are declared.

    Returns
    -------
    dict of str to array
        By name in the file: inputs, outputs, every tensor between segments, and the map after
        every layer, as the real numbers that its keys stand for (float64, exact).
    """
    inner: dict[str, list[Array]] = {}

    def keep(segment: OverlaySegment, layer: int, form: MapFormat, keys: Array) -> None:
        if form.name:  # else handed on from engine to engine: no tensor of the model
            inner.setdefault(form.name, []).append((keys - form.zero_key) * form.scale)

    found = watch_layers(network, inputs, keep)
    return found | {name: np.concatenate(parts) for name, parts in inner.items()}


def watch_layers(
    network: CompiledNetwork, inputs: Mapping[str, Array], seen: Seen
) -> dict[str, Array]:
    """Compute a network, overlay segments on the emulator, and show the map after every layer.

    Parameters
    ----------
    network : CompiledNetwork
        The network.
    inputs : mapping of str to array, shape (samples, ...)
        Inputs as the model's inputs are declared.
    seen : callable
        Called for every layer of an overlay segment but its last one, part by part of the batch.

    Returns
    -------
    dict of str to array
        By name in the file: inputs, outputs and every tensor between segments.
    """
    segments = {
        id(segment.overlay): segment
        for segment in network.segments
        if isinstance(segment, OverlaySegment)
    }

    def open_emulator(overlay: Overlay) -> _Watched:
        return _Watched(overlay, segments.get(id(overlay)), seen)

    with SegmentExecutor(network, open_emulator) as executor:
        return executor.held_tensors(inputs)


def host_tensors(network: CompiledNetwork, known: Collection[str]) -> frozenset[str]:
    """Names of the tensors that the host makes, as far as the model's file has them.

    A tensor between segments may have no name there, where one operator was written out as
    several. What a device makes of it is then judged together with what the host did before.

    Parameters
    ----------
    network : CompiledNetwork
        The network.
    known : collection of str
        Tensors that the file has.
    """
    found: set[str] = set()
    for segment in network.segments:
        if isinstance(segment, HostSegment):
            found.update(segment.outputs)
        elif any(name in found and name not in known for name in segment.inputs):
            maps = segment.maps if isinstance(segment, OverlaySegment) else ()
            names = [*(form.name for form in maps), *segment.outputs]
            found.update(names[: next((i + 1 for i, n in enumerate(names) if n in known), None)])
    return frozenset(found & set(known))


def twice_made(network: CompiledNetwork, known: Collection[str]) -> dict[str, frozenset[str]]:
    """Tensors of the host that a device makes for itself as well, by what it makes of them.

    The device's are exact; the host's may be one step off, where its runtime divides in float32.
    What is made of the device's must not be judged by the host's.

    Parameters
    ----------
    network : CompiledNetwork
        The network.
    known : collection of str
        Tensors that the file has.

    Returns
    -------
    dict of str to frozenset of str
        By every tensor that a device holds: names of the host's tensors that it is not made of.
    """
    hosts = [segment for segment in network.segments if isinstance(segment, HostSegment)]
    found: dict[str, frozenset[str]] = {}
    for segment in network.segments:
        if isinstance(segment, HostSegment):
            continue
        nodes = set(segment.nodes)
        twice = {name for host in hosts if nodes & set(host.nodes) for name in host.outputs}
        aside = frozenset((twice & set(known)) - set(segment.inputs))
        maps = segment.maps if isinstance(segment, OverlaySegment) else ()
        if aside:
            made = {*(form.name for form in maps), *segment.outputs} - {""}
            found.update(dict.fromkeys(made, aside - made))
    return found


class _Watched:
    """An emulator that shows what is between its layers."""

    def __init__(self, overlay: Overlay, segment: OverlaySegment | None, seen: Seen) -> None:
        self._overlay = overlay
        self._segment = segment
        self._seen = seen
        self._emulator = (
            Emulator(overlay) if overlay.kernel.core.map is None else MapEmulator(overlay)
        )
        self.device_name = self._emulator.name
        self.statistics: Statistics | None = None
        self.kernels: list[dict[str, Any]] = []
        self.held_bytes: int | None = None  # each emulator is used once

    def run(self, output_names: None, input_feed: Mapping[str, Array]) -> list[Array]:
        """Compute a batch."""
        samples = pack_inputs(self._overlay, input_feed[self._overlay.input.name])
        if self._segment is not None and self._segment.maps:
            outputs = self._emulator.layer_outputs(samples)[:-1]
            maps = zip(self._segment.maps, outputs, strict=True)
            for number, (form, keys) in enumerate(maps):
                # Channels after those of the tensor fill up rows of a map engine.
                channels = math.prod(size or 1 for size in form.shape[1:])
                kept = keys[..., : channels // math.prod(keys.shape[1:3])]
                self._seen(self._segment, number, form, _as_tensor(form, kept))
        results, self.statistics = self._emulator.run(samples)
        return [unpack_outputs(self._overlay, results)]

    def close(self) -> None:
        """Let go of nothing."""


def _as_tensor(form: MapFormat, keys: Array) -> Array:
    """A map with the axes of its tensor."""
    order = form.axes + "".join(letter for letter in "HWC" if letter not in form.axes)
    moved = keys.transpose(0, *(1 + "HWC".index(letter) for letter in order))
    return moved.reshape(len(keys), *(size or 1 for size in form.shape[1:]))
