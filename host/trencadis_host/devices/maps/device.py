"""A map engine in NumPy: the same samples from the same image, bit for bit, without cycles."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from trencadis_format.closing import Closing
from trencadis_format.map_program import MapProgram, multiplies, read_map_program
from trencadis_format.models.add import add_keys
from trencadis_format.models.requantise import requantise
from trencadis_format.overlay import Overlay
from trencadis_host.devices.maps.decode import DecodedMapLayer, decode_map_layers
from trencadis_host.devices.protocol import DeviceError, Statistics

__all__ = ["MapEmulator"]

PackedBatch = npt.NDArray[np.uint8]
Array = npt.NDArray[np.int64]

BATCH = 16
"""Samples that are computed at once."""

PART_VALUES = 1 << 22
"""Values of windows that are unfolded at once."""


class MapEmulator(Closing):
    """A device that computes in NumPy what a map engine computes.

    Parameters
    ----------
    overlay : Overlay
        The network.
    name : str
        Name of the device.

    Raises
    ------
    DeviceError
        If the image cannot be decoded.
    """

    def __init__(self, overlay: Overlay, name: str = "emulator") -> None:
        self._overlay, self._name = overlay, name
        try:
            self._program: MapProgram = read_map_program(overlay.image, overlay.kernel)
            self._layers = [
                _Prepared(layer, self._program) for layer in decode_map_layers(self._program)
            ]
        except ValueError as error:
            raise DeviceError(f"device {name}: {error}; compile the model again") from error

    @property
    def name(self) -> str:
        """Name of the device."""
        return self._name

    def run(self, samples: PackedBatch) -> tuple[PackedBatch, Statistics]:
        """Compute samples; see `Device.run`."""
        results = [self._compute(samples[i : i + BATCH]) for i in range(0, len(samples), BATCH)]
        return np.concatenate(results), Statistics(samples=len(samples))

    @property
    def held_bytes(self) -> int:
        """Memory of the weights."""
        return sum(layer.held_bytes for layer in self._layers)

    def reopen(self) -> "MapEmulator":
        """Itself: it is only memory, which a child process has a copy of."""
        return self

    def close(self) -> None:
        """Nothing to let go of."""

    def layer_outputs(self, samples: PackedBatch) -> list[Array]:
        """Outputs of every layer, for comparison layer by layer.

        Parameters
        ----------
        samples : uint8 array, shape (samples, overlay.input_bytes)
            As for `run`.

        Returns
        -------
        list of int64 array, shape (samples, rows, columns, places)
            Keys in the order of their places, padding included; of sums, their bytes.
        """
        memory = self._arrived(samples)
        found = []
        for layer in self._layers:
            layer.run(memory)
            found.append(layer.output(memory))
        return found

    def memories(self, samples: PackedBatch) -> Iterator[npt.NDArray[np.uint8]]:
        """The map memory before every layer, shape (samples, rows, keys of a row).

        It is the same array each time, which the layer then changes.
        """
        memory = self._arrived(samples)
        for layer in self._layers:
            yield memory
            layer.run(memory)

    def _compute(self, samples: PackedBatch) -> PackedBatch:
        program = self._program
        memory = self._arrived(samples)
        for layer in self._layers:
            layer.run(memory)
        rows = memory[:, program.out_base : program.out_base + program.out_rows]
        packed = np.zeros((len(samples), self._overlay.output_bytes), np.uint8)
        flat = rows.reshape(len(samples), -1)
        packed[:, : flat.shape[1]] = flat
        return packed

    def _arrived(self, samples: PackedBatch) -> npt.NDArray[np.uint8]:
        """The map memory with the samples' keys, shape (samples, rows, keys of a row)."""
        program, config = self._program, self._program.config
        channels, positions = program.feed["row_values"] + 1, program.feed["rows"] + 1
        rows = -(-channels // config.row_values)
        memory = np.zeros((len(samples), config.map_rows, config.row_values), np.uint8)
        padded = np.full(
            (len(samples), positions, rows * config.row_values), program.feed["zero"], np.uint8
        )
        padded[:, :, :channels] = samples[:, : positions * channels].reshape(
            len(samples), positions, channels
        )
        first = program.feed["address"]
        memory[:, first : first + positions * rows] = padded.reshape(
            len(samples), positions * rows, config.row_values
        )
        return memory


class _Prepared:
    """A layer with what needs to be made of it only once."""

    def __init__(self, layer: DecodedMapLayer, program: MapProgram) -> None:
        self._layer = layer
        self._config = program.config
        largest = int(np.abs(layer.weights).sum(axis=1).max(initial=0)) * 255
        # Sums of products are exact in float32 while they stay below 2**24.
        dtype = np.float32 if largest < 1 << 24 else np.float64
        self._wraps = largest >= 1 << (program.config.sum_bits - 1)
        self._kernels = layer.weights.astype(dtype)

    @property
    def held_bytes(self) -> int:
        return self._kernels.nbytes + self._layer.weights.nbytes

    def output(self, memory: npt.NDArray[np.uint8]) -> Array:
        """The map that was written, shape (samples, rows, columns, places)."""
        fields = self._layer.fields
        rows = memory[:, self._layer.writes].astype(np.int64)
        return rows.reshape(len(memory), fields["out_h"] + 1, fields["out_w"] + 1, -1)

    def run(self, memory: npt.NDArray[np.uint8]) -> None:
        """Read and write the map memory, shape (samples, rows, keys of a row)."""
        layer, fields = self._layer, self._layer.fields
        positions, window, rows = layer.reads.address.shape
        values = len(memory) * window * rows * self._config.row_values
        part = max(1, PART_VALUES // values)
        for pass_ in range(fields["passes"] + 1):
            step = fields["step_rows"] + 1
            targets = layer.writes[:, pass_ * step : (pass_ + 1) * step]
            for start in range(0, positions, part):
                some = slice(start, start + part)
                found = self._step(memory, pass_, some)
                if fields["add"]:
                    second = memory[:, layer.second[some, pass_ * step : (pass_ + 1) * step]]
                    found = add_keys(found, second, **layer.add).astype(np.uint8)
                if layer.table is not None:
                    found = layer.table[found]
                memory[:, targets[some]] = found

    def _step(
        self, memory: npt.NDArray[np.uint8], pass_: int, some: slice
    ) -> npt.NDArray[np.uint8]:
        """Rows that a pass gives, shape (samples, positions, rows, keys of a row)."""
        layer, fields = self._layer, self._layer.fields
        address = layer.reads.address[some] + pass_ * fields["pass_step"]
        inside = layer.reads.inside[some]
        keys = memory[:, np.where(inside[:, :, None], address, 0)]
        outside = ~inside[None, :, :, None, None]
        shape = (len(memory), len(address), fields["step_rows"] + 1, self._config.row_values)
        if not multiplies(fields):
            return np.where(outside, 0, keys).max(axis=2).astype(np.uint8).reshape(shape)
        values = np.where(outside, 0, keys.astype(np.int16) - fields["zero"])
        flat = values.reshape(len(memory) * len(address), -1).astype(self._kernels.dtype)
        sums = (flat @ self._kernels[pass_]).astype(np.int64)
        if self._wraps:
            half = 1 << (self._config.sum_bits - 1)
            sums = (sums + half) % (2 * half) - half
        if fields["raw"]:
            return sums.astype("<i4").view(np.uint8).reshape(shape)
        parameters = {name: array[pass_] for name, array in layer.parameters.items()}
        keys = requantise(sums, **parameters, low=fields["low"], high=fields["high"])
        return keys.astype(np.uint8).reshape(shape)
