"""Calibration data matched to a model's inputs, one whole set of inputs after the other."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from trencadis_compiler.importer.calibration import CalibrationError
from trencadis_compiler.importer.images import load_images
from trencadis_format.errors import FileError
from trencadis_format.files import load_array, open_file

__all__ = ["Samples", "load_arrays", "load_samples", "match_samples"]

Array = npt.NDArray[Any]

MAX_ARCHIVE = 16 << 30
"""Bytes of an .npz file, and of the arrays in it."""


@dataclass(frozen=True)
class Samples:
    """Inputs of a model, `count` times.

    Attributes
    ----------
    arrays : mapping of str to array
        For each input, whole inputs one after the other along axis 0; scalars are stacked.
    sizes : mapping of str to int
        Rows of one input on axis 0; 0 for a scalar.
    count : int
        Number of sets of inputs.
    """

    arrays: Mapping[str, Array]
    sizes: Mapping[str, int]
    count: int

    def part(self, start: int, stop: int) -> "Samples":
        """Some of the samples."""
        cut = {
            name: a[start * self._rows(name) : stop * self._rows(name)]
            for name, a in self.arrays.items()
        }
        return Samples(cut, self.sizes, max(0, min(stop, self.count) - start))

    def __iter__(self) -> Iterator[dict[str, Array]]:
        for number in range(self.count):
            yield {
                name: np.asarray(array[number])
                if not self.sizes[name]
                else np.ascontiguousarray(array[number * rows : (number + 1) * rows])
                for name, array in self.arrays.items()
                for rows in [self._rows(name)]
            }

    def _rows(self, name: str) -> int:
        return self.sizes[name] or 1


def load_samples(path: Path, model: onnx.ModelProto) -> Samples:
    """Read calibration data: an .npy file, an .npz file, or a folder of images.

    Raises
    ------
    CalibrationError
        If they are not the model's inputs. One line that begins with the path.
    """
    try:
        if path.is_dir():
            arrays: Array | dict[str, Array] = load_images(path, *_image_input(model))
        else:
            arrays = load_arrays(path)
        return match_samples(arrays, model)
    except CalibrationError as error:
        text = str(error)
        raise CalibrationError(text if text.startswith(str(path)) else f"{path}: {text}") from error
    except FileError as error:
        raise CalibrationError(str(error)) from error


def load_arrays(path: Path) -> Array | dict[str, Array]:
    """Read the array of an .npy file, or those of an .npz file by name.

    Raises
    ------
    InputError
        If the file is neither.
    """
    return _load_archive(path) if _is_archive(path) else load_array(path)


def _is_archive(path: Path) -> bool:
    with open_file(path, MAX_ARCHIVE) as file:
        return file.read(4) == b"PK\x03\x04"


def _load_archive(path: Path) -> dict[str, Array]:
    """The arrays of an .npz file; sizes are looked at before they are read."""
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
            if total > MAX_ARCHIVE:
                raise CalibrationError(
                    f"{path}: {total} bytes when unpacked, more than the {MAX_ARCHIVE} "
                    "that are read"
                )
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except CalibrationError:
        raise
    except Exception as error:  # zipfile and NumPy raise whatever they come across
        reason = " ".join(str(error).split())[:120]
        raise CalibrationError(
            f"{path}: not an archive of arrays ({reason}); write it with numpy.savez"
        ) from error


def match_samples(arrays: Array | Mapping[str, Array], model: onnx.ModelProto) -> Samples:
    """Match arrays to a model's inputs.

    Parameters
    ----------
    arrays : array, or mapping of str to array
        The only input, or all inputs by name.
    model : ModelProto
        A model in standard form.

    Raises
    ------
    CalibrationError
        If an input lacks, or an array has another shape or type, is empty or not finite.
    """
    inputs = {value.name: value for value in model.graph.input}
    if not isinstance(arrays, Mapping):
        if len(inputs) != 1:
            raise CalibrationError(
                f"the model has {len(inputs)} inputs; give an .npz file with arrays named "
                + ", ".join(inputs)
            )
        arrays = {next(iter(inputs)): arrays}
    missing = [name for name in inputs if name not in arrays]
    if missing:
        raise CalibrationError(
            f"no array for input {missing[0]!r}; the file has {', '.join(arrays) or 'none'}"
        )
    unknown = [name for name in arrays if name not in inputs]
    if unknown:
        raise CalibrationError(
            f"array {unknown[0]!r} is no input of the model, which has {', '.join(inputs)}"
        )
    sizes = {name: _check(np.asarray(arrays[name]), value) for name, value in inputs.items()}
    counts = {
        name: len(arrays[name]) // (size or 1) if np.ndim(arrays[name]) else 0
        for name, size in sizes.items()
    }
    count = next(iter(counts.values()))
    for name, other in counts.items():
        if other != count:
            raise CalibrationError(
                f"input {name!r} has {other} samples, another input {count}; give as many of each"
            )
    typed = {name: np.asarray(array, _dtype(inputs[name])) for name, array in arrays.items()}
    return Samples(typed, sizes, count)


def _dtype(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))


def _check(array: Array, value: onnx.ValueInfoProto) -> int:
    """Rows of one input on axis 0; 0 for a scalar."""
    shape = [
        dim.dim_value if dim.HasField("dim_value") else None
        for dim in value.type.tensor_type.shape.dim
    ]
    wanted = [*(["n"] if not shape else []), *("n" if s is None else str(s) for s in shape)]
    text = "x".join(wanted)
    rank = max(len(shape), 1)
    fits = array.ndim == rank and all(
        size is None or size == given
        for size, given in zip(shape[1:], array.shape[1:], strict=True)
    )
    if not fits:
        raise CalibrationError(
            f"input {value.name!r} is {text}, or several of these along axis 0, not "
            f"{'x'.join(map(str, array.shape)) or 'a single number'}"
        )
    rows = 0 if not shape else shape[0] or 1
    if len(array) < max(rows, 1):
        raise CalibrationError(
            f"input {value.name!r} takes {max(rows, 1)} rows at a time, but there are "
            f"{len(array)}; give at least as many"
        )
    if rows and len(array) % rows:
        raise CalibrationError(
            f"input {value.name!r} takes {rows} rows at a time, but there are {len(array)}; give a "
            "multiple"
        )
    dtype = _dtype(value)
    if array.dtype.kind not in "fiub" or not np.can_cast(array.dtype, dtype, "same_kind"):
        raise CalibrationError(
            f"input {value.name!r} has type {dtype}, not {array.dtype}; convert with .astype"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise CalibrationError(f"input {value.name!r} has numbers that are not finite")
    return rows


def _image_input(model: onnx.ModelProto) -> tuple[tuple[int, int, int], bool, np.dtype[Any], int]:
    """Channels, rows and columns of the only input; channels last; its type; rows on axis 0."""
    inputs = list(model.graph.input)
    dims = (
        [
            dim.dim_value if dim.HasField("dim_value") else 0
            for dim in inputs[0].type.tensor_type.shape.dim
        ]
        if len(inputs) == 1
        else []
    )
    for last in (False, True):
        channels = dims[3 if last else 1] if len(dims) == 4 else 0
        if channels in (1, 3) and all(dims[1:]):
            rows, columns = dims[1:3] if last else dims[2:4]
            return (channels, rows, columns), last, _dtype(inputs[0]), dims[0] or 1
    raise CalibrationError(
        "a folder of images calibrates models with one input of 1 or 3 channels, rows and columns; "
        "give arrays (.npy or .npz)"
    )
