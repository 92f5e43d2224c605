"""Checkpoints of networks that fill the memory: written and read array by array, in place.

The file is a safetensors file. It is written beside its name, flushed to the disk and renamed, so
it is there complete or not at all; nothing is copied in memory. Reading checks the whole header
against the network before a byte goes into it.
"""

import json
import os
import struct
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from trencadis_train.errors import TrainingError
from trencadis_train.sparse.scale.network import Report, ScaleNetwork, Shape

__all__ = ["read_network", "write_network"]

FORMAT = "trencadis-scale-1"

CHUNK = 1 << 26
"""Bytes between two reports."""

MAX_HEADER = 1 << 20

KINDS = {"float32": "F32", "int32": "I32", "int64": "I64"}


def write_network(
    network: ScaleNetwork, path: Path, report: Report = lambda what, part: None
) -> None:
    """Write a network's topology, weights, momenta and biases.

    Raises
    ------
    TrainingError
        If the file cannot be written; one that was there before stays.
    """
    arrays = _arrays(network)
    header = json.dumps(_header(network, arrays)).encode()
    header += b" " * (-len(header) % 8)
    total = sum(array.nbytes for array in arrays.values())
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(struct.pack("<Q", len(header)) + header)
                done = 0
                for array in arrays.values():
                    for part in _chunks(array):
                        file.write(part)
                        done += len(part)
                        report("writing", done / total)
                file.flush()
                os.fsync(file.fileno())
            os.rename(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise TrainingError(
            f"{path}: cannot be written: {error.strerror}; make room for {total} bytes"
        ) from error


def read_network(path: Path, report: Report = lambda what, part: None) -> ScaleNetwork:
    """Read a network; memory is taken once.

    Raises
    ------
    TrainingError
        If the file is missing, damaged, or none of `write_network`; or memory does not suffice.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            header = _read_header(file, path, size)
            meta = json.loads(header["__metadata__"]["data"])
            shape = Shape(**meta["shape"])
            wanted = 8 * shape.connections  # before anything is allocated: the file is of anyone
            if wanted > size:
                raise ValueError(
                    f"its network has {shape.connections} connections, and it is shorter"
                )
            network = ScaleNetwork(shape, seed=int(meta["seed"]), report=report, begin=False)
            network.steps = int(meta["steps"])
            arrays = _arrays(network)
            if header != _header(network, arrays):
                raise ValueError("its arrays are of another network")
            _read_arrays(file, arrays, report)
    except FileNotFoundError as error:
        raise TrainingError(f"{path}: there is no such file; train first") from error
    except (OSError, KeyError, TypeError, ValueError, RecursionError, struct.error) as error:
        if isinstance(error, TrainingError):
            raise
        text = " ".join(str(error).split())
        raise TrainingError(
            f"{path}: not a usable checkpoint ({text}); delete it and train again"
        ) from error
    for layer in network.layers:
        if layer.indices.min() < 0 or layer.indices.max() >= layer.inputs:
            raise TrainingError(f"{path}: not a usable checkpoint (connections to nowhere)")
    return network


def _arrays(network: ScaleNetwork) -> dict[str, npt.NDArray[Any]]:
    return {
        f"{number}.{name}": array
        for number, layer in enumerate(network.layers)
        for name, array in layer.arrays.items()
    }


def _header(network: ScaleNetwork, arrays: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
    data = {"shape": asdict(network.shape), "seed": network.seed, "steps": network.steps}
    header: dict[str, Any] = {"__metadata__": {"format": FORMAT, "data": json.dumps(data)}}
    place = 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": KINDS[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [place, place + array.nbytes],
        }
        place += array.nbytes
    return header


def _read_header(file: BinaryIO, path: Path, size: int) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", file.read(8))
    if not 2 <= length <= min(MAX_HEADER, size):
        raise ValueError("its header is too long")
    header = json.loads(file.read(length))
    if header["__metadata__"]["format"] != FORMAT:
        raise ValueError(f"its format is not {FORMAT!r}")
    return header


def _read_arrays(file: BinaryIO, arrays: dict[str, npt.NDArray[Any]], report: Report) -> None:
    total, done = sum(array.nbytes for array in arrays.values()), 0
    for array in arrays.values():
        for part in _chunks(array):
            if file.readinto(part) != len(part):  # type: ignore[attr-defined]
                raise ValueError("it is truncated")
            done += len(part)
            report("reading", done / total)
    if file.read(1):
        raise ValueError("it is too long")


def _chunks(array: npt.NDArray[Any]) -> list[memoryview]:
    plain: Any = array.reshape(-1).view(np.uint8)
    view = memoryview(plain)
    return [view[start : start + CHUNK] for start in range(0, len(view), CHUNK)]
