"""Overlay images as files: a safetensors container with one tensor and a checked manifest.

The tensor is the device image (`abi.pack_blocks`); the manifest, JSON in the container's metadata,
tells the host what goes in and what comes out, and for which hardware the image was made. Nothing
is taken on trust: types, sizes, the image's digest and its blocks are checked on loading.
"""

import hashlib
import json
import math
import os
import stat
import struct
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from trencadis_hw import abi
from trencadis_hw.config import KernelConfig
from trencadis_hw.file_kind import IMAGE, MODEL, file_kind
from trencadis_hw.image_check import check_blocks
from trencadis_hw.keys import integer_keys, real_keys

__all__ = [
    "ContainerError",
    "InputError",
    "InputFormat",
    "OutputFormat",
    "Overlay",
    "check_batch",
    "check_file",
    "check_finite",
    "write_atomically",
]

FORMAT = "trencadis-overlay"
LARGEST_FILE = 256 << 20
"""Bytes; the memories of the largest card hold less."""

_Record = TypeVar("_Record")


class ContainerError(ValueError):
    """A file is not a usable overlay image. One line: file, rule, value, remedy."""


class InputError(ValueError):
    """An input array does not fit the model. One line: input, rule, what came."""


@dataclass(frozen=True, kw_only=True)
class InputFormat:
    """How the host turns the model's input into words.

    Attributes
    ----------
    name, dtype : str
        As the model declares them.
    shape : tuple of int or None
        As the model declares it; None where it leaves a size open.
    axes : str
        The map's axes in the order in which the tensor has them behind the batch.
    channels, rows, columns : int
        Of the map.
    scale : float
        Real numbers are divided by this (a float32 number).
    zero_key : int
        Key of the real number zero.
    key_offset : int
        Added to quantised integers to get keys: 0 or 128.
    nonzeros : int
        Channels of a position that may be other than zero, and are sent as `abi.INPUT_ENTRY`; 0 if
        all are sent, as keys.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    axes: str
    channels: int
    rows: int
    columns: int
    scale: float
    zero_key: int
    key_offset: int
    nonzeros: int = 0

    @property
    def values(self) -> int:
        """Values of a word."""
        return self.channels * self.rows * self.columns

    @property
    def entries(self) -> int:
        """Entries of a sparse word; 0 if words are dense."""
        return self.nonzeros * self.rows * self.columns

    @property
    def word_bytes(self) -> int:
        """Bytes of a word, before it is padded to whole beats."""
        return self.entries * abi.INPUT_ENTRY.bits // 8 if self.nonzeros else self.values

    def keys(self, array: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Keys of a batch of inputs.

        Real inputs are quantised as ONNX's QuantizeLinear does: divided by the scale, rounded half
        to even, clipped. The quotient of two float32 in float64 is exact enough for the rounding to
        be that of exact arithmetic.

        Parameters
        ----------
        array : array, shape (words, ...)
            The batch, as the model's input is declared; any number of words.

        Returns
        -------
        uint8 array, shape (words, rows, columns, channels)

        Raises
        ------
        InputError
            If shape or type are not the model's, or a value is not a number.
        """
        batch = np.asarray(array)
        check_batch(batch, self.name, self.shape, self.dtype)
        if batch.dtype.kind in "iu":
            keys = integer_keys(batch, self.key_offset)
        else:
            try:
                keys = real_keys(batch, self.scale, self.zero_key)
            except ValueError:
                check_finite(batch, self.name)  # says where it is not
                raise
        sizes = {"C": self.channels, "H": self.rows, "W": self.columns}
        axes = self.axes + "".join(axis for axis in "CHW" if axis not in self.axes)
        maps = keys.reshape(len(batch), *(sizes[axis] for axis in axes))
        return maps.transpose(0, *(1 + axes.index(axis) for axis in "HWC"))


@dataclass(frozen=True, kw_only=True)
class OutputFormat:
    """How the host turns output words into the model's output.

    Attributes
    ----------
    name, dtype, shape, axes : as in `InputFormat`
    channels, rows, columns : int
        Of the map.
    piece_bytes, pieces : int
        Bytes of a piece, pieces of a word.
    places : int
        Keys or sums of a position, padding included.
    order : tuple of int
        The place of every channel among them.
    raw : bool
        The word holds 32-bit sums, not keys.
    integer : bool
        The model's output is the quantised integers themselves.
    scales, offsets : tuple of float
        The real number is scale * (key - zero_key) with one scale; for sums it is scale * sum +
        offset, one of each a channel.
    zero_key, key_offset : int
        As in `InputFormat`.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    axes: str
    channels: int
    rows: int
    columns: int
    piece_bytes: int
    pieces: int
    places: int
    order: tuple[int, ...]
    raw: bool
    integer: bool
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    zero_key: int
    key_offset: int


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """A compiled network.

    Attributes
    ----------
    name : str
        Of the model.
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
        """Bytes of an input word, padded to whole beats."""
        return _padded(self.input.word_bytes, self.kernel.bus_bytes)

    @property
    def output_bytes(self) -> int:
        """Bytes of an output word, padded to whole beats."""
        return _padded(self.output.pieces * self.output.piece_bytes, self.kernel.bus_bytes)

    def save(self, path: Path) -> None:
        """Write the container; the file appears complete or not at all."""
        manifest = {
            "abi": abi.ABI_VERSION,
            "name": self.name,
            "kernel": self.kernel.to_dict(),
            "configuration": f"{self.kernel.digest:016x}",
            "sha256": hashlib.sha256(self.image).hexdigest(),
            "input": asdict(self.input),
            "output": asdict(self.output),
            "report": self.report,
        }
        text = json.dumps(manifest, sort_keys=True)
        metadata = {"format": FORMAT, "manifest": text, "sha256": _digest(text)}
        write_atomically(path, _container(self.image, metadata))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read and check a container.

        Raises
        ------
        ContainerError
            If the file is missing, damaged, or made by another version.
        """
        check_file(path, LARGEST_FILE)
        kind = file_kind(path)
        if kind not in (IMAGE, None):
            compile_it = f"; compile it first: sparse-compile {path}" if kind == MODEL else ""
            raise ContainerError(
                f"{path}: not an overlay image (it is {kind}); give a .tcd file that "
                f"sparse-compile wrote{compile_it}"
            )
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ContainerError(f"{path}: cannot be read: {error.strerror}") from error
        try:
            return cls._parse(data)
        except (ValueError, RecursionError) as error:
            raise ContainerError(
                f"{path}: not a usable overlay image: {error}; compile the model again"
            ) from error

    @classmethod
    def _parse(cls, data: bytes) -> Self:
        metadata = _metadata(data)
        if metadata.get("format") != FORMAT:
            raise ValueError(f"its format is {metadata.get('format')!r}, not {FORMAT!r}")
        try:
            tensors = safetensors.numpy.load(data)
        except Exception as error:  # safetensors raises exceptions of its own and of NumPy
            raise ValueError(f"the container is damaged ({error})") from error
        if list(tensors) != ["image"] or tensors["image"].dtype != np.uint8:
            raise ValueError("it does not hold one tensor 'image' of bytes")
        image = tensors["image"].tobytes()
        text = str(metadata.get("manifest"))
        if metadata.get("sha256") != _digest(text):
            raise ValueError("its manifest does not match its digest")
        manifest = _object(json.loads(text), "manifest")
        if not _is(manifest.get("abi"), "int") or manifest["abi"] != abi.ABI_VERSION:
            raise ValueError(
                f"it was made for version {manifest.get('abi')!r} of the formats, this is "
                f"{abi.ABI_VERSION}"
            )
        if manifest.get("sha256") != hashlib.sha256(image).hexdigest():
            raise ValueError("the image does not match its digest")
        kernel = _kernel(manifest.get("kernel"))
        if manifest.get("configuration") != f"{kernel.digest:016x}":
            raise ValueError("its kernel configuration does not match its digest")
        name = manifest.get("name")
        if not isinstance(name, str):
            raise ValueError("it has no name")
        overlay = cls(
            name=name,
            kernel=kernel,
            image=image,
            input=_record(InputFormat, manifest.get("input"), "input"),
            output=_record(OutputFormat, manifest.get("output"), "output"),
            report=_report(manifest.get("report")),
        )
        overlay._check()
        return overlay

    def _check(self) -> None:
        """Whether the parts fit each other."""
        blocks = list(abi.unpack_blocks(self.image))
        check_blocks(blocks, self.kernel)
        feed = next(
            abi.FEED.unpack(row)
            for block in blocks
            if block.target == abi.Target.FEED
            for row in block.rows
        )
        beats = (
            self.input_bytes // self.kernel.bus_bytes,
            self.output_bytes // self.kernel.bus_bytes,
        )
        if beats != (feed["beats"] + 1, feed["out_beats"] + 1):
            raise ValueError("the manifest's word sizes are not those of the image")
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

    def _check_sparse(self, feed: Mapping[str, int], blocks: Sequence[abi.Block]) -> None:
        """Whether a sparse input is written as the manifest says."""
        row = next(block.rows[0] for block in blocks if block.target == abi.Target.INPUT)
        emit, form = abi.EMIT.unpack(row), self.input
        shape = (emit["height"] + 1, emit["width"] + 1)
        if (
            shape != (form.rows, form.columns)
            or emit["zero"] != form.zero_key
            or emit["emission"] == abi.Emission.BYTES
            or (emit["out_map"], emit["buffers"]) != (feed["in_map"], feed["buffers"])
            or form.channels > 1 << abi.INPUT_INDEX_BITS
        ):
            raise ValueError("its sparse input is not written as its manifest says")


def check_batch(
    batch: npt.NDArray[Any], name: str, shape: Sequence[int | None], dtype: str
) -> None:
    """Whether an array is a batch of a model's input.

    Parameters
    ----------
    batch : array
        The array.
    name, shape, dtype
        Of the input as the model declares it; any number of words will do.

    Raises
    ------
    InputError
        If shape or type are others, or there are no words.
    """
    expected = ["N" if i == 0 or size is None else size for i, size in enumerate(shape)]
    if batch.ndim != len(expected) or any(
        size not in ("N", have) for size, have in zip(expected, batch.shape, strict=True)
    ):
        raise InputError(
            f"input {name!r} must have shape {expected}, not {list(batch.shape)}; N is any number "
            "of words"
        )
    if len(batch) == 0:
        raise InputError(f"input {name!r} has no words; give it at least one")
    if batch.dtype != np.dtype(dtype):
        raise InputError(
            f"input {name!r} must be {dtype}, not {batch.dtype}; convert it with .astype('{dtype}')"
        )


def check_finite(batch: npt.NDArray[Any], name: str) -> None:
    """Whether every number of a model's input is one.

    Raises
    ------
    InputError
        If one is not.
    """
    wrong = ~np.isfinite(batch)
    if wrong.any():
        index = [int(i) for i in np.argwhere(wrong)[0]]
        raise InputError(
            f"input {name!r} must be finite, but is {batch[tuple(index)]} at {index}; clean the "
            "data first"
        )


def check_file(path: Path, largest: int) -> None:
    """Whether a file is worth reading at all.

    Raises
    ------
    ContainerError
        If it is missing, not a regular file, or larger than `largest` bytes.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ContainerError(f"{path}: cannot be read: {reason}") from error
    if not stat.S_ISREG(status.st_mode):
        raise ContainerError(f"{path}: cannot be read: not a regular file")
    if status.st_size > largest:
        raise ContainerError(
            f"{path}: {status.st_size} bytes, more than the {largest} that are read; "
            "is it the right file?"
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file such that it is there complete or not at all.

    Raises
    ------
    ContainerError
        If it cannot be written.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise ContainerError(f"{path}: cannot be written: {error.strerror}") from error


def _kernel(value: object) -> KernelConfig:
    """A kernel configuration in which whole numbers are whole numbers."""
    kernel = _object(value, "kernel")
    core = _object(kernel.get("core"), "kernel.core")
    engines = core.get("engines")
    if not isinstance(engines, list):
        raise ValueError("its kernel.core.engines is missing or not a list")
    parts = [kernel, core, *(_object(engine, "engine") for engine in engines)]
    for name, entry in ((name, entry) for part in parts for name, entry in part.items()):
        whole = isinstance(entry, bool) if name == "sparse_input" else _is(entry, "int")
        if not whole and not isinstance(entry, (str, dict, list)):
            raise ValueError(f"its kernel has {name} {entry!r}")
    return KernelConfig.from_dict(kernel)


def _report(value: object) -> dict[str, Any]:
    """A report, in which there is what benchmarks compare with."""
    report = _object(value, "report")
    cycles = report.get("cycles_per_word")
    if not _is(cycles, "float") or not _is(report.get("cycles_are"), "str"):
        raise ValueError("its report does not tell the cycles of a word")
    return report


def _padded(size: int, beat: int) -> int:
    return -(-size // beat) * beat


def _container(image: bytes, metadata: dict[str, str]) -> bytes:
    """A safetensors container; its own writer would put the metadata in any order."""
    tensor = {"dtype": "U8", "shape": [len(image)], "data_offsets": [0, len(image)]}
    header = json.dumps({"__metadata__": metadata, "image": tensor}, sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + image


def _metadata(data: bytes) -> dict[str, Any]:
    """The metadata of a safetensors container, which its NumPy loader leaves out."""
    if len(data) < 8:
        raise ValueError(f"{len(data)} bytes are no container")
    (length,) = struct.unpack("<Q", data[:8])
    if length > len(data) - 8:
        raise ValueError("the container is truncated")
    header = json.loads(data[8 : 8 + length].decode())
    return _object(_object(header, "header").get("__metadata__"), "metadata")


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"its {what} is missing or not an object")
    return value


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
}


def _record(cls: type[_Record], value: object, what: str) -> _Record:
    """An instance of a dataclass of plain fields, each checked against its annotation."""
    data = _object(value, what)
    names = {field.name: str(getattr(field.type, "__name__", field.type)) for field in fields(cls)}  # type: ignore[arg-type]
    if data.keys() != names.keys():
        raise ValueError(f"its {what} has the wrong fields")
    arguments: dict[str, Any] = {}
    real = ("scale", "scales", "offsets")
    for name, annotation in names.items():
        entry = data[name]
        if annotation.startswith("tuple"):
            element = "float" if name in real else "int"
            if not isinstance(entry, list):
                raise ValueError(f"{what}.{name} is not a list")
            if not all(_is(item, element) or (item is None and name == "shape") for item in entry):
                raise ValueError(f"{what}.{name} is not a list of {element}")
            arguments[name] = tuple(_float(item) if name in real else item for item in entry)
        else:
            if not _is(entry, annotation):
                raise ValueError(f"{what}.{name} is not a {annotation}")
            arguments[name] = _float(entry) if name in real else entry
    return cls(**arguments)


def _float(value: float) -> float:
    """A float; a whole number that is too large for one becomes infinite, as it would in JSON."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _is(value: object, kind: str) -> bool:
    if kind != "bool" and isinstance(value, bool):
        return False
    return isinstance(value, _TYPES[kind])
