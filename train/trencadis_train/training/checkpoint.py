"""Checkpoints of a training: one safetensors file that is there complete or not at all."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from trencadis_format.files import write_atomically
from trencadis_train.errors import TrainingError

__all__ = ["Checkpoint", "Framework"]

FORMAT = "trencadis-training-1"


Framework = Literal["pt", "numpy"]


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and plain data.

    Attributes
    ----------
    tensors : mapping of str to tensor or array
        Tensors on the CPU.
    data : mapping of str to Any
        JSON-ready.
    """

    tensors: Mapping[str, Any]
    data: Mapping[str, Any]

    def save(self, path: Path) -> None:
        """Write the file."""
        arrays = {name: _array(tensor) for name, tensor in self.tensors.items()}
        metadata = {"format": FORMAT, "data": json.dumps(self.data)}
        write_atomically(path, safetensors.numpy.save(arrays, metadata))

    @classmethod
    def load(cls, path: Path, framework: Framework = "pt") -> Self:
        """Read the file; nothing in it is executed.

        Parameters
        ----------
        path : Path
            The file.
        framework : str
            `pt` for PyTorch's tensors, `numpy` for arrays.

        Raises
        ------
        TrainingError
            If it is missing, damaged, or of another version.
        """
        try:
            with safetensors.safe_open(path, framework=framework) as file:
                metadata = file.metadata() or {}
                names = file.keys()
                tensors = {name: file.get_tensor(name) for name in names}
            if metadata.get("format") != FORMAT:
                raise ValueError(f"its format is {metadata.get('format')!r}, not {FORMAT!r}")
            data = json.loads(metadata.get("data", ""))
            if not isinstance(data, dict):
                raise ValueError("it has no data")
        except FileNotFoundError as error:
            raise TrainingError(f"{path}: there is no such file; train first") from error
        except Exception as error:  # safetensors raises exceptions of its own
            text = " ".join(str(error).split())
            raise TrainingError(
                f"{path}: not a usable checkpoint ({text}); delete it and train again"
            ) from error
        return cls(tensors, data)

    def part(self, prefix: str) -> dict[str, Any]:
        """Tensors whose names begin with a prefix and a dot, without it."""
        start = f"{prefix}."
        return {
            name.removeprefix(start): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(start)
        }


def _array(tensor: Any) -> npt.NDArray[Any]:
    """A tensor of PyTorch, or an array, as an array."""
    plain = tensor.detach().cpu().numpy() if hasattr(tensor, "detach") else tensor
    # Not `ascontiguousarray`, which gives a scalar a dimension.
    return np.asarray(plain, order="C")
