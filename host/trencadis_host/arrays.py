"""Arrays by name in files: the inputs of a model, and its outputs."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_format.errors import InputError
from trencadis_format.files import load_array, open_file, save_array, write_atomically

__all__ = ["check_outputs", "load_feed", "save_outputs"]

Array = npt.NDArray[Any]

MAX_ARCHIVE = 16 << 30
"""Bytes of an .npz file, and of the arrays in it."""

ARCHIVE = b"PK\x03\x04"


def load_feed(path: Path, names: Sequence[str]) -> dict[str, Array]:
    """Load the inputs of a model: an .npz file with arrays by name, or the only one as .npy.

    Parameters
    ----------
    path : Path
        The file.
    names : sequence of str
        The model's inputs.

    Raises
    ------
    InputError
        If the file does not hold them.
    """
    with open_file(path, MAX_ARCHIVE) as file:
        archive = file.read(len(ARCHIVE)) == ARCHIVE
    if archive:
        return _archive(path)
    if len(names) != 1:
        raise InputError(
            f"{path}: the model has inputs {list(names)}; give an .npz file with arrays of these "
            "names, as numpy.savez writes it"
        )
    return {names[0]: load_array(path)}


def _archive(path: Path) -> dict[str, Array]:
    """The arrays of an .npz file; sizes are looked at before they are read."""
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
        if total > MAX_ARCHIVE:
            raise InputError(f"{path}: {total} bytes unpacked; at most {MAX_ARCHIVE} are read")
        with np.load(path, allow_pickle=False) as loaded:
            return {name: loaded[name] for name in loaded.files}
    except InputError:
        raise
    except Exception as error:  # zipfile and NumPy raise whatever they come across
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{path}: not an archive of arrays ({reason}); write it with numpy.savez"
        ) from error


def save_outputs(path: Path, outputs: Mapping[str, Array]) -> None:
    """Save outputs: as .npz by name if the path says so, else the only one as .npy.

    Raises
    ------
    InputError
        If there are several and the path is no .npz file.
    FileError
        If the file cannot be written.
    """
    if path.suffix == ".npz":
        buffer = io.BytesIO()
        # numpy.savez takes no array that is called like one of its options, and notes the time.
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, array in outputs.items():
                rows = np.asarray(array, order="C")
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as member:
                    np.lib.format.write_array(member, rows, allow_pickle=False)
        write_atomically(path, buffer.getvalue())
        return
    check_outputs(path, list(outputs))
    (array,) = outputs.values()
    save_array(path, array)


def check_outputs(path: Path, names: Sequence[str]) -> None:
    """Refuse a path that cannot hold all outputs, before they are computed.

    Raises
    ------
    InputError
        If there are several and the path is no .npz file.
    """
    if path.suffix != ".npz" and len(names) != 1:
        raise InputError(f"{path}: the model has outputs {list(names)}; give an .npz file for them")
