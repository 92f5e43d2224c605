"""Compiled networks as files: a safetensors container with a tensor per segment and a manifest.

A network is a list of segments with named tensors between them: device images, and ONNX graphs that
run on the host. The manifest, JSON in the container's metadata, tells what goes in and what comes
out, for which hardware images were made, and of which model. Nothing is taken on trust: types,
sizes, digests, blocks and graphs are checked on loading.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors.numpy

from trencadis_format.config import KernelConfig
from trencadis_format.container_file import container_metadata, container_parts, digest_of
from trencadis_format.cut_segment import CutSegment, cut_entry, cut_segment
from trencadis_format.errors import ContainerError, FileError
from trencadis_format.files import IMAGE, MODEL, file_kind, read_file, write_atomically
from trencadis_format.image import ABI_VERSION
from trencadis_format.manifest import has_type, kernel_of, list_of, object_of, record_of
from trencadis_format.onnx_check import check_host_graph
from trencadis_format.overlay import Overlay
from trencadis_format.tensor_formats import InputFormat, MapFormat, OutputFormat, TensorFormat

__all__ = [
    "FORMAT_VERSION",
    "MAX_FILE_BYTES",
    "CompiledNetwork",
    "CutSegment",
    "HostSegment",
    "OverlaySegment",
    "Segment",
    "Source",
    "load_overlay",
    "read_source",
]

FORMAT = "trencadis-overlay"

FORMAT_VERSION = 4
"""Version of the container. 3: lists of inputs, outputs and segments; source and options."""

MAX_FILE_BYTES = 8 << 30
"""Bytes of a file."""


@dataclass(frozen=True)
class Source:
    """Origin of a compiled network.

    Attributes
    ----------
    sha256 : str
        SHA-256 of the model's file, its external data included; empty if there was none.
    judged_sha256 : str
        SHA-256 of the quantised copy of a float model; empty if the model itself is quantised.
    options : mapping
        Options of the compiler, JSON-ready.
    """

    sha256: str = ""
    judged_sha256: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OverlaySegment:
    """A segment that runs on the device.

    Attributes
    ----------
    overlay : Overlay
        The program.
    nodes : tuple of str
        The model's nodes that it computes.
    maps : tuple of MapFormat
        What its layers but the last one make, in order; empty if that is not known.
    """

    overlay: Overlay
    nodes: tuple[str, ...] = ()
    maps: tuple[MapFormat, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors that it reads."""
        return (self.overlay.input.name,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the tensors that it makes."""
        return (self.overlay.output.name,)


@dataclass(frozen=True)
class HostSegment:
    """A segment that runs on the host, by onnxruntime.

    Attributes
    ----------
    model : bytes
        An ONNX model; see `check_host_graph` for what may be in it.
    inputs, outputs : tuple of str
        Names of the tensors that it reads and makes.
    nodes : tuple of str
        The model's nodes that it computes.
    reason : str
        Why they are not on the device.
    """

    model: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...] = ()
    reason: str = ""


Segment = OverlaySegment | HostSegment | CutSegment


@dataclass(frozen=True)
class CompiledNetwork:
    """A compiled network.

    Attributes
    ----------
    name : str
        Name of the model.
    kernel : KernelConfig
        The hardware that its images are for.
    inputs, outputs : tuple of TensorFormat
        Inputs and outputs as the model declares them.
    segments : tuple
        Each after those whose tensors it reads.
    report : mapping
        What the compiler has to say about it; JSON-ready.
    source : Source
        What it was compiled from.
    """

    name: str
    kernel: KernelConfig
    inputs: tuple[TensorFormat, ...]
    outputs: tuple[TensorFormat, ...]
    segments: tuple[Segment, ...]
    report: Mapping[str, Any]
    source: Source = field(default_factory=Source)

    @classmethod
    def of_overlay(cls, overlay: Overlay) -> Self:
        """A network that is one program of the device."""
        return cls(
            name=overlay.name,
            kernel=overlay.kernel,
            inputs=(_tensor(overlay.input),),
            outputs=(_tensor(overlay.output),),
            segments=(OverlaySegment(overlay),),
            report=overlay.report,
        )

    @property
    def only_overlay(self) -> Overlay | None:
        """The program of a network that is nothing else."""
        segment = self.segments[0]
        if len(self.segments) == 1 and isinstance(segment, OverlaySegment):
            return segment.overlay
        return None

    @property
    def fixed_batch(self) -> int | None:
        """The size that all inputs and outputs fix for their first axis; None if they do not."""
        sizes = {form.shape[0] if form.shape else None for form in (*self.inputs, *self.outputs)}
        return next(iter(sizes)) if len(sizes) == 1 else None

    @property
    def open_batch(self) -> bool:
        """True if every input leaves the size of its first axis open."""
        return all(form.shape and form.shape[0] is None for form in self.inputs)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file; it appears complete or not at all.

        Raises
        ------
        FileError
            If it cannot be written.
        """
        tensors: dict[str, bytes] = {}
        segments = []
        for number, segment in enumerate(self.segments):
            name = f"segment{number:04}"
            if isinstance(segment, OverlaySegment):
                tensors[name] = segment.overlay.image
                entry: dict[str, Any] = {
                    "place": "overlay",
                    "input": asdict(segment.overlay.input),
                    "output": asdict(segment.overlay.output),
                    "report": segment.overlay.report,
                    "maps": [asdict(form) for form in segment.maps],
                }
            elif isinstance(segment, CutSegment):
                entry, tensors[name] = cut_entry(segment, name)
            else:
                tensors[name] = segment.model
                entry = {
                    "place": "host",
                    "inputs": list(segment.inputs),
                    "outputs": list(segment.outputs),
                    "reason": segment.reason,
                }
            entry |= {
                "tensor": name,
                "sha256": hashlib.sha256(tensors[name]).hexdigest(),
                "nodes": list(segment.nodes),
            }
            segments.append(entry)
        manifest = {
            "format_version": FORMAT_VERSION,
            "abi": ABI_VERSION,
            "name": self.name,
            "kernel": self.kernel.to_dict(),
            "configuration": f"{self.kernel.digest:016x}",
            "inputs": [asdict(form) for form in self.inputs],
            "outputs": [asdict(form) for form in self.outputs],
            "segments": segments,
            "report": self.report,
            "source": asdict(self.source),
        }
        text = json.dumps(manifest, sort_keys=True)
        metadata = {"format": FORMAT, "manifest": text, "sha256": digest_of(text)}
        write_atomically(Path(path), b"".join(container_parts(tensors, metadata)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read and check a file.

        Raises
        ------
        ContainerError
            If the file is missing, damaged, or made by another version.
        """
        path = Path(path)
        kind = file_kind(path)
        if kind not in (IMAGE, None):
            compile_it = f"; compile it first: sparse-compile {path}" if kind == MODEL else ""
            raise ContainerError(
                f"{path}: not an overlay image (it is {kind}); give a .tcd file that "
                f"sparse-compile wrote{compile_it}"
            )
        try:
            data = read_file(path, MAX_FILE_BYTES)
        except FileError as error:
            raise ContainerError(str(error)) from error
        try:
            return cls._parse(data)
        except (ValueError, RecursionError) as error:
            raise ContainerError(
                f"{path}: not a usable overlay image: {error}; compile the model again"
            ) from error

    @classmethod
    def _parse(cls, data: bytes) -> Self:
        metadata = container_metadata(data)
        if metadata.get("format") != FORMAT:
            raise ValueError(f"its format is {metadata.get('format')!r}, not {FORMAT!r}")
        text = str(metadata.get("manifest"))
        if metadata.get("sha256") != digest_of(text):
            raise ValueError("its manifest does not match its digest")
        manifest = object_of(json.loads(text), "manifest")
        _check_version(manifest)
        try:
            tensors = safetensors.numpy.load(data)
        except Exception as error:  # safetensors raises exceptions of its own and of NumPy
            raise ValueError(f"the container is damaged ({error})") from error
        if any(tensor.dtype != np.uint8 for tensor in tensors.values()):
            raise ValueError("its tensors are not of bytes")
        kernel = kernel_of(manifest.get("kernel"))
        if manifest.get("configuration") != f"{kernel.digest:016x}":
            raise ValueError("its kernel configuration does not match its digest")
        name = manifest.get("name")
        if not isinstance(name, str):
            raise ValueError("it has no name")
        entries = [object_of(e, "segment") for e in list_of(manifest.get("segments"), "segments")]
        if sorted(str(entry.get("tensor")) for entry in entries) != sorted(tensors):
            raise ValueError("its segments are not the tensors that it holds")
        network = cls(
            name=name,
            kernel=kernel,
            inputs=_formats(manifest, "inputs"),
            outputs=_formats(manifest, "outputs"),
            segments=tuple(
                _segment(entry, tensors[entry["tensor"]].tobytes(), name, kernel)
                for entry in entries
            ),
            report=_report(manifest.get("report")),
            source=_source(manifest.get("source")),
        )
        network._check()
        return network

    def _check(self) -> None:
        """Check that every tensor is made once, before it is read, and is what is read."""
        if not self.segments:
            raise ValueError("it has no segments")
        formats: dict[str, TensorFormat] = {}
        made: set[str] = set()
        for form in self.inputs:
            _check_type(form)
            if form.name in made:
                raise ValueError(f"two inputs are named {form.name!r}")
            made.add(form.name)
            formats[form.name] = form
        for segment in self.segments:
            for name in segment.inputs:
                if name not in made:
                    raise ValueError(f"a segment reads {name!r}, which is not made before")
            for name in segment.outputs:
                if name in made:
                    raise ValueError(f"two tensors are named {name!r}")
                made.add(name)
            if isinstance(segment, OverlaySegment):
                overlay = segment.overlay
                overlay.check()
                known = formats.get(overlay.input.name)
                if known is not None and known != _tensor(overlay.input):
                    raise ValueError(f"a segment reads {known.name!r} as another tensor")
                formats[overlay.output.name] = _tensor(overlay.output)
            elif isinstance(segment, CutSegment):
                segment.check()
                known = formats.get(segment.input.name)
                if known is not None and known != _tensor(segment.input):
                    raise ValueError(f"a segment reads {known.name!r} as another tensor")
                formats[segment.output.name] = _tensor(segment.output)
            else:
                check_host_graph(segment.model, segment.inputs, segment.outputs)
        if not self.outputs:
            raise ValueError("it has no outputs")
        for form in self.outputs:
            _check_type(form)
            known = formats.get(form.name)
            if form.name not in made or (known is not None and known != form):
                raise ValueError(f"no segment makes its output {form.name!r}")


def read_source(path: Path) -> Source:
    """Read what a file was compiled from, whatever its version is.

    Raises
    ------
    ContainerError
        If the file cannot be read, or does not say.
    """
    try:
        metadata = container_metadata(read_file(path, MAX_FILE_BYTES))
        text = str(metadata.get("manifest"))
        if metadata.get("sha256") != digest_of(text):
            raise ValueError("its manifest does not match its digest")
        return _source(object_of(json.loads(text), "manifest").get("source"))
    except FileError:
        raise
    except (ValueError, RecursionError) as error:
        raise ContainerError(f"{path}: does not tell what it was compiled from: {error}") from error


def _check_version(manifest: Mapping[str, Any]) -> None:
    version = manifest.get("format_version", 2)
    if version != FORMAT_VERSION or not has_type(version, "int"):
        age = "older" if has_type(version, "int") and version < FORMAT_VERSION else "newer"
        raise ValueError(
            f"it is of version {version!r} of the file format, {age} than this one's "
            f"{FORMAT_VERSION}"
        )
    if not has_type(manifest.get("abi"), "int") or manifest["abi"] != ABI_VERSION:
        raise ValueError(
            f"it was made for version {manifest.get('abi')!r} of the formats, this is {ABI_VERSION}"
        )


def _segment(entry: Mapping[str, Any], data: bytes, name: str, kernel: KernelConfig) -> Segment:
    if entry.get("sha256") != hashlib.sha256(data).hexdigest():
        raise ValueError("the image does not match its digest")
    nodes = _names(entry, "nodes")
    if entry.get("place") == "overlay":
        overlay = Overlay(
            name=name,
            kernel=kernel,
            image=data,
            input=record_of(InputFormat, entry.get("input"), "input"),
            output=record_of(OutputFormat, entry.get("output"), "output"),
            report=_report(entry.get("report")),
        )
        maps = [record_of(MapFormat, m, "map") for m in list_of(entry.get("maps"), "maps")]
        return OverlaySegment(overlay, nodes, tuple(maps))
    if entry.get("place") == "pieces":
        return cut_segment(entry, data, name, kernel, _report, nodes)
    reason = entry.get("reason")
    if entry.get("place") != "host" or not isinstance(reason, str):
        raise ValueError(f"a segment is placed on {entry.get('place')!r}")
    return HostSegment(data, _names(entry, "inputs"), _names(entry, "outputs"), nodes, reason)


def _names(entry: Mapping[str, Any], what: str) -> tuple[str, ...]:
    names = list_of(entry.get(what), what)
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"{what} of a segment are not names")
    return tuple(names)


def _formats(manifest: Mapping[str, Any], what: str) -> tuple[TensorFormat, ...]:
    entries = list_of(manifest.get(what), what)
    return tuple(record_of(TensorFormat, entry, what) for entry in entries)


def _source(value: object) -> Source:
    entry = object_of(value, "source")
    digests = entry.get("sha256"), entry.get("judged_sha256")
    if not all(isinstance(digest, str) for digest in digests):
        raise ValueError("its source has no digests")
    return Source(str(digests[0]), str(digests[1]), object_of(entry.get("options"), "options"))


def _report(value: object) -> dict[str, Any]:
    """A report, in which there is what benchmarks compare with."""
    report = object_of(value, "report")
    cycles = report.get("cycles_per_word")
    if isinstance(cycles, bool) or not isinstance(cycles, int | float):
        cycles = math.nan
    # Whole numbers of any length are compared exactly; a network without overlay segments has 0.
    if not 0 <= cycles < math.inf or not has_type(report.get("cycles_are"), "str"):
        raise ValueError("its report does not tell the cycles of an inference")
    return report


def _tensor(form: InputFormat | OutputFormat) -> TensorFormat:
    return TensorFormat(name=form.name, dtype=form.dtype, shape=form.shape)


def _check_type(form: TensorFormat) -> None:
    try:
        known = np.dtype(form.dtype).kind in "biufUO"
    except TypeError:
        known = False
    if not known:
        raise ValueError(f"the type of {form.name!r} is {form.dtype!r}")
    if any(size is not None and size < 0 for size in form.shape):
        raise ValueError(f"the shape of {form.name!r} is {list(form.shape)}")


def load_overlay(path: Path) -> Overlay:
    """Read a compiled network that is one overlay segment.

    Raises
    ------
    ContainerError
        If the file is missing, damaged, made by another version, or has other segments too.
    """
    network = CompiledNetwork.load(path)
    overlay = network.only_overlay
    if overlay is None:
        raise ContainerError(
            f"{path}: has {len(network.segments)} segments; only networks that are one overlay "
            "segment can be used here: compile with --strict"
        )
    return overlay
