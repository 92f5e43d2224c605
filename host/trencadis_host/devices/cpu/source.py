"""Layers that the device `cpu` computes: of an image, or of a segment whose pieces are joined."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from trencadis_format.cut_segment import CutSegment
from trencadis_format.overlay import Overlay
from trencadis_format.tensor_formats import InputFormat, OutputFormat
from trencadis_host.devices.cpu.programs import UnsuitableError
from trencadis_host.devices.cpu.whole import whole_layers
from trencadis_host.devices.emulator.decode import DecodedInput, DecodedLayer, decode
from trencadis_host.devices.emulator.device import Emulator
from trencadis_host.devices.protocol import DeviceError

__all__ = ["CpuProgram", "overlay_program", "segment_program"]

SUM_BYTES = 4

Form = TypeVar("Form", InputFormat, OutputFormat)


@dataclass(frozen=True)
class CpuProgram:
    """Layers, and the samples and tensors that go in and come out.

    Attributes
    ----------
    source : DecodedInput
        The map that goes in.
    layers : list of DecodedLayer
        In order.
    input, output : InputFormat, OutputFormat
        The tensors.
    input_bytes, output_bytes : int
        Of a packed sample.
    emulate : callable or None
        Makes an emulator of the same, where there is one.
    """

    source: DecodedInput
    layers: list[DecodedLayer]
    input: InputFormat
    output: OutputFormat
    input_bytes: int
    output_bytes: int
    emulate: Callable[[], Emulator] | None


def overlay_program(overlay: Overlay) -> CpuProgram:
    """The program of an image.

    Raises
    ------
    DeviceError
        If it cannot be decoded.
    """
    try:
        source, layers = decode(overlay.image, overlay.kernel)
    except ValueError as error:
        raise DeviceError(f"device cpu: {error}; compile the model again") from error
    return CpuProgram(
        source=source,
        layers=layers,
        input=overlay.input,
        output=overlay.output,
        input_bytes=overlay.input_bytes,
        output_bytes=overlay.output_bytes,
        emulate=lambda: Emulator(overlay),
    )


def segment_program(segment: CutSegment) -> CpuProgram:
    """The layers of a segment in pieces, computed whole.

    Its tensors of integers have channels last: that is how maps lie in memory.

    Raises
    ------
    DeviceError
        If an image cannot be decoded.
    UnsuitableError
        If it is computed in pieces only.
    """
    try:
        source, layers = whole_layers(segment)
    except UnsuitableError:
        raise
    except ValueError as error:
        raise DeviceError(f"device cpu: {error}; compile the model again") from error
    given, wanted = segment.input, segment.output
    size = wanted.rows * wanted.columns * wanted.channels * (SUM_BYTES if wanted.raw else 1)
    wanted = replace(
        wanted,
        piece_bytes=size,
        pieces=1,
        places=wanted.channels,
        order=tuple(range(wanted.channels)),
    )
    return CpuProgram(
        source=source,
        layers=layers,
        input=_channels_last(given),
        output=_channels_last(wanted),
        input_bytes=given.values,
        output_bytes=size,
        emulate=None,
    )


def _channels_last(form: Form) -> Form:
    """The format of the same tensor with channels as its last axis, if it has integers by map."""
    if form.axes != "CHW" or form.dtype not in ("int8", "uint8"):
        return form
    batch, channels, rows, columns = form.shape
    return replace(form, axes="HWC", shape=(batch, rows, columns, channels))
