"""An ONNX file on onnxruntime, given the inputs of a compiled network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_format.errors import InputError
from trencadis_format.files import read_file
from trencadis_format.onnx_check import MAX_GRAPH_BYTES, operators_of
from trencadis_format.onnx_outputs import made_tensors, output_tensors, with_outputs
from trencadis_format.onnxruntime_door import exact_mode, explained, open_session

__all__ = ["OnnxModel"]

Array = npt.NDArray[Any]

MAX_BATCH = 64
"""Samples of a run, where the model leaves the size of a batch open."""


class OnnxModel:
    """An ONNX file that takes the inputs of a compiled network.

    Parameters
    ----------
    path : Path
        The file.
    inputs : sequence of str
        The network's inputs. The only one may be called otherwise in the file.
    inner : sequence of str
        Tensors within the model that are wanted besides its outputs; names that it does not have
        are left out.

    Attributes
    ----------
    outputs : tuple of str
        The model's outputs.
    inner : tuple of str
        The tensors within that it has.

    Raises
    ------
    FileError
        If the file cannot be read.
    InputError
        If it is no ONNX file, onnxruntime cannot run it, or it has other inputs.
    MissingOnnxruntimeError
        If onnxruntime is not installed.
    """

    def __init__(self, path: Path, inputs: Sequence[str], *, inner: Sequence[str] = ()) -> None:
        self._path = path
        data = read_file(path, MAX_GRAPH_BYTES)
        try:
            mode = exact_mode(operators_of(data))
            made = set(made_tensors(data)) if inner else set()
            self.inner = tuple(name for name in inner if name in made)
            self.outputs = tuple(output_tensors(data))
            source = with_outputs(data, self.inner)
        except ValueError as error:
            raise InputError(f"{path}: not an ONNX model ({error}); export it again") from error
        with explained(f"{path}: onnxruntime cannot run it"):
            self._session = open_session(source, mode, folder=path.parent)
        given = [node.name for node in self._session.get_inputs()]
        if len(given) == len(inputs) == 1:
            self._names = {inputs[0]: given[0]}
        elif sorted(given) == sorted(inputs):
            self._names = {name: name for name in given}
        else:
            raise InputError(
                f"{path}: its inputs are {given}, those of the image {list(inputs)}; give the "
                "model that the image was compiled from"
            )

    def run(self, feed: Mapping[str, Array], names: Sequence[str]) -> dict[str, Array]:
        """Compute a batch of any size.

        Parameters
        ----------
        feed : mapping of str to array, shape (samples, ...)
            Every input by the network's name for it.
        names : sequence of str
            Outputs, or tensors within, to compute.

        Returns
        -------
        dict of str to array
            Of tensors without a batch, what the first samples give.

        Raises
        ------
        InputError
            If onnxruntime refuses the inputs.
        """
        counts = {len(array) if array.ndim else 1 for array in feed.values()}
        if len(counts) != 1 or not all(array.ndim for array in feed.values()):
            return self._call(feed, names)
        (count,) = counts
        fixed = self._fixed_batch()
        size = fixed or min(count, MAX_BATCH)
        parts = []
        for start in range(0, count, size):
            part = {name: array[start : start + size] for name, array in feed.items()}
            missing = size - min(size, count - start) if fixed else 0
            if missing:
                part = {
                    name: np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
                    for name, array in part.items()
                }
            parts.append(self._call(part, names))
        return {name: _joined([part[name] for part in parts], count) for name in names}

    def _fixed_batch(self) -> int | None:
        """The size of a batch, if all inputs fix the same one."""
        sizes = {node.shape[0] if node.shape else None for node in self._session.get_inputs()}
        (size,) = sizes if len(sizes) == 1 else (None,)
        return size if isinstance(size, int) and size > 0 else None

    def _call(self, feed: Mapping[str, Array], names: Sequence[str]) -> dict[str, Array]:
        given = {self._names[name]: array for name, array in feed.items()}
        with explained(f"{self._path}: onnxruntime refuses the inputs"):
            made = self._session.run(list(names), given)
        return {name: np.asarray(array) for name, array in zip(names, made, strict=True)}


def _joined(parts: list[Array], count: int) -> Array:
    """A tensor of all parts, without what pads the last one; of no batch, that of the first."""
    if parts[0].ndim == 0:
        return parts[0]
    return np.concatenate(parts)[:count] if len(parts) > 1 else parts[0][:count]
