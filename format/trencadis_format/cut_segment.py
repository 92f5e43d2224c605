"""Segments that no core holds whole: stages, and the device images of their pieces."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_format.config import KernelConfig
from trencadis_format.manifest import list_of, object_of, record_of
from trencadis_format.overlay import Overlay
from trencadis_format.pieces import Stage
from trencadis_format.tensor_formats import InputFormat, OutputFormat

__all__ = ["CutSegment", "cut_entry", "cut_segment", "piece_maps", "piece_tensor"]


@dataclass(frozen=True)
class CutSegment:
    """A segment that runs on the device piece by piece.

    Attributes
    ----------
    overlays : tuple of Overlay
        The programs of all images, by number. Their tensors are integers with axes CHW; those of
        pieces that give sums are float64, each a sum.
    stages : tuple of Stage
        Stages, in order.
    input, output : InputFormat, OutputFormat
        The tensors of the whole; where the output's values lie in words is left open.
    report : mapping
        What the compiler has to say about it; JSON-ready.
    nodes : tuple of str
        The model's nodes that it computes.
    """

    overlays: tuple[Overlay, ...]
    stages: tuple[Stage, ...]
    input: InputFormat
    output: OutputFormat
    report: Mapping[str, Any]
    nodes: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors that it reads."""
        return (self.input.name,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the tensors that it makes."""
        return (self.output.name,)

    def check(self) -> None:
        """Check that stages, images and tensors fit each other.

        Raises
        ------
        ValueError
            If they do not.
        """
        if not self.stages:
            raise ValueError("a segment in pieces has no stages")
        numbers = [number for stage in self.stages for number in stage.images]
        if numbers != list(range(len(self.overlays))):
            raise ValueError("the images of a segment are not those of its pieces")
        shape = (self.input.channels, self.input.rows, self.input.columns)
        for stage in self.stages:
            if stage.in_shape != shape:
                raise ValueError(f"a stage reads {stage.in_shape} where there is {shape}")
            shape = stage.out_shape
            for piece in stage.pieces:
                overlay = self.overlays[piece.image]
                source, form = overlay.input, overlay.output
                if piece.reads.shape != (source.channels, source.rows, source.columns):
                    raise ValueError("a piece does not read what its image does")
                if piece.writes.shape != (form.channels, form.rows, form.columns):
                    raise ValueError("a piece does not write what its image does")
                if form.raw != stage.join.sums:
                    raise ValueError("a piece gives sums where keys are joined, or the other way")
        if shape != (self.output.channels, self.output.rows, self.output.columns):
            raise ValueError("the last stage does not make the segment's output")
        if self.stages[-1].gives_sums != self.output.raw:
            raise ValueError("the last stage gives sums where keys are wanted, or the other way")
        for overlay in self.overlays:
            overlay.check()


def cut_entry(segment: CutSegment, tensor: str) -> tuple[dict[str, Any], bytes]:
    """The manifest's entry of a segment, and the bytes of its images one after the other."""
    images = [
        {
            "bytes": len(overlay.image),
            "sha256": hashlib.sha256(overlay.image).hexdigest(),
            "input": asdict(overlay.input),
            "output": asdict(overlay.output),
            "report": overlay.report,
        }
        for overlay in segment.overlays
    ]
    entry = {
        "place": "pieces",
        "tensor": tensor,
        "images": images,
        "stages": [stage.to_dict() for stage in segment.stages],
        "input": asdict(segment.input),
        "output": asdict(segment.output),
        "report": segment.report,
    }
    return entry, b"".join(overlay.image for overlay in segment.overlays)


def cut_segment(
    entry: Mapping[str, Any],
    data: bytes,
    name: str,
    kernel: KernelConfig,
    check_report: Callable[[object], Mapping[str, Any]],
    nodes: tuple[str, ...],
) -> CutSegment:
    """Inverse of `cut_entry`.

    Raises
    ------
    ValueError
        If anything is missing or impossible.
    """
    overlays = []
    start = 0
    for item in list_of(entry.get("images"), "images"):
        image = object_of(item, "image")
        size = image.get("bytes")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= len(data) - start:
            raise ValueError("the images of a segment are not as long as the manifest says")
        part = data[start : start + size]
        start += size
        if image.get("sha256") != hashlib.sha256(part).hexdigest():
            raise ValueError("an image of a segment does not match its digest")
        overlays.append(
            Overlay(
                name=name,
                kernel=kernel,
                image=part,
                input=record_of(InputFormat, image.get("input"), "input"),
                output=record_of(OutputFormat, image.get("output"), "output"),
                report=check_report(image.get("report")),
            )
        )
    if start != len(data):
        raise ValueError("the images of a segment are not as long as the manifest says")
    stages = [object_of(stage, "stage") for stage in list_of(entry.get("stages"), "stages")]
    return CutSegment(
        overlays=tuple(overlays),
        stages=tuple(map(Stage.from_dict, stages)),
        input=record_of(InputFormat, entry.get("input"), "input"),
        output=record_of(OutputFormat, entry.get("output"), "output"),
        report=check_report(entry.get("report")),
        nodes=nodes,
    )


def piece_tensor(overlay: Overlay, maps: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """The input tensor of a piece, from keys of shape (samples, rows, columns, channels)."""
    form = overlay.input
    integers = maps.astype(np.int16) - form.key_offset
    return integers.astype(form.dtype).transpose(0, 3, 1, 2)


def piece_maps(overlay: Overlay, tensor: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Keys or sums of shape (samples, rows, columns, channels), from a piece's output tensor."""
    moved = tensor.transpose(0, 2, 3, 1)
    if overlay.output.raw:
        return moved.astype(np.int64)
    return (moved.astype(np.int16) + overlay.output.key_offset).astype(np.uint8)
