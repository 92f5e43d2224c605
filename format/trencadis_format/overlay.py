"""A program of the device: its image, the hardware it is for, and what goes in and comes out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trencadis_format.config import KernelConfig
from trencadis_format.image import Block, Target, unpack_blocks
from trencadis_format.image_check import check_blocks
from trencadis_format.layer_tables import EMIT, FEED, Emission
from trencadis_format.tensor_formats import InputFormat, OutputFormat
from trencadis_format.widths import INPUT_INDEX_BITS

__all__ = ["MAX_RATIO_BITS", "Overlay"]

MAX_RATIO_BITS = 8192
"""Bits of a numerator, an addend or a denominator of an output."""


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """A segment of a compiled network that runs on the device.

    Attributes
    ----------
    name : str
        Name of the model.
    kernel : KernelConfig
        The hardware it was compiled for.
    image : bytes
        The device image.
    input, output : InputFormat, OutputFormat
        What goes in and comes out.
    report : mapping
        What the compiler has to say about it; JSON-ready.
    """

    name: str
    kernel: KernelConfig
    image: bytes
    input: InputFormat
    output: OutputFormat
    report: Mapping[str, Any]

    @property
    def input_bytes(self) -> int:
        """Bytes of a packed input, padded to whole beats."""
        return _padded(self.input.sample_bytes, self.kernel.bus_bytes)

    @property
    def output_bytes(self) -> int:
        """Bytes of a packed output, padded to whole beats."""
        return _padded(self.output.pieces * self.output.piece_bytes, self.kernel.bus_bytes)

    def check(self) -> None:
        """Check that the parts fit each other.

        Raises
        ------
        ValueError
            If they do not.
        """
        blocks = list(unpack_blocks(self.image))
        check_blocks(blocks, self.kernel)
        feed = next(
            FEED.unpack(row)
            for block in blocks
            if block.target == Target.FEED
            for row in block.rows
        )
        beats = (
            self.input_bytes // self.kernel.bus_bytes,
            self.output_bytes // self.kernel.bus_bytes,
        )
        if beats != (feed["beats"] + 1, feed["out_beats"] + 1):
            raise ValueError("the manifest's sample sizes are not those of the image")
        if not 0 <= self.input.nonzeros <= self.input.channels:
            raise ValueError(f"{self.input.nonzeros} of its input's channels are not zero")
        if bool(self.input.nonzeros) != bool(feed["sparse"]):
            raise ValueError(
                "the manifest's input is sparse where the image's is not, or the other way round"
            )
        if feed["sparse"]:
            self._check_sparse(feed, blocks)
        for what, form in (("input", self.input), ("output", self.output)):
            if min(form.channels, form.rows, form.columns) < 1:
                raise ValueError(f"its {what} map has no size")
            if not set(form.axes) <= set("CHW") or len(set(form.axes)) != len(form.axes):
                raise ValueError(f"the axes of its {what} are {form.axes!r}")
            sizes = {"C": form.channels, "H": form.rows, "W": form.columns}
            if any(size > 1 for axis, size in sizes.items() if axis not in form.axes):
                raise ValueError(f"the axes of its {what} leave out some that are not 1")
            known = [size for size in form.shape[1:] if size is not None]
            if (
                not form.shape
                or len(known) != len(form.shape) - 1
                or min(known, default=1) < 1
                or math.prod(known) != math.prod(sizes.values())
            ):
                raise ValueError(f"the shape of its {what} is {list(form.shape)}")
            if form.dtype not in ("float32", "float16", "float64", "int8", "uint8"):
                raise ValueError(f"the type of its {what} is {form.dtype!r}")
            if form.key_offset not in (0, 128) or not 0 <= form.zero_key <= 255:
                raise ValueError(f"the quantisation of its {what} is not that of bytes")
        output = self.output
        if (output.raw and output.integer) or output.integer != (output.dtype in ("int8", "uint8")):
            raise ValueError(f"its output is not {output.dtype}")
        per_position = output.places * (4 if output.raw else 1)
        if output.rows * output.columns * per_position != output.pieces * output.piece_bytes:
            raise ValueError("the sizes of its output do not fit each other")
        if len(output.order) != output.channels or any(
            not 0 <= place < output.places for place in output.order
        ):
            raise ValueError("the order of its output is not one")
        scales = output.channels if output.raw else 1
        if len(output.scales) != scales or len(output.offsets) != (scales if output.raw else 0):
            raise ValueError("its output has the wrong number of scales")
        numbers = (self.input.scale, *output.scales)
        if not all(math.isfinite(number) and number > 0 for number in numbers):
            raise ValueError("a scale is not positive")
        if not all(math.isfinite(number) for number in output.offsets):
            raise ValueError("an offset is not finite")
        ratios = (output.numerators, output.addends, output.denominators)
        if {len(numbers) for numbers in ratios} not in ({0}, {scales if output.raw else 0}):
            raise ValueError("its output has the wrong number of ratios")
        if any(number.bit_length() > MAX_RATIO_BITS for number in sum(ratios, ())) or any(
            numerator <= 0 or denominator <= 0 for numerator, _, denominator in output.ratios
        ):
            raise ValueError("a ratio is not positive, or too long")

    def _check_sparse(self, feed: Mapping[str, int], blocks: Sequence[Block]) -> None:
        """Check that a sparse input is written as the manifest says."""
        row = next(block.rows[0] for block in blocks if block.target == Target.INPUT)
        emit, form = EMIT.unpack(row), self.input
        shape = (emit["height"] + 1, emit["width"] + 1)
        if (
            shape != (form.rows, form.columns)
            or emit["zero"] != form.zero_key
            or emit["emission"] == Emission.BYTES
            or (emit["out_map"], emit["buffers"]) != (feed["in_map"], feed["buffers"])
            or form.channels > 1 << INPUT_INDEX_BITS
        ):
            raise ValueError("its sparse input is not written as its manifest says")


def _padded(size: int, beat: int) -> int:
    return -(-size // beat) * beat
