"""Calibration data: inputs that show what values and how many of them are usual."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt

from trencadis_compiler.errors import CompileError
from trencadis_compiler.graph import Graph
from trencadis_hw.arrays import load_array
from trencadis_hw.container import InputError, check_batch, check_finite

__all__ = ["CalibrationError", "calibration_data", "check_calibration"]

Array = npt.NDArray[Any]


class CalibrationError(InputError):
    """Calibration data do not fit the model. One line: input, rule, what came."""


@contextmanager
def calibration_data(path: Path | None) -> Iterator[Array | None]:
    """The data in a file, if there is one; in the context, errors about them name it.

    Raises
    ------
    InputError
        If the file does not hold one array of numbers.
    """
    if path is None:
        yield None
        return
    try:
        yield load_array(path)
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from error


def check_calibration(graph: Graph, calibration: Array) -> None:
    """Whether a float model can be run on the data.

    Raises
    ------
    CompileError
        If the model has not one input.
    CalibrationError
        If they are not the model's inputs, or not finite.
    """
    if len(graph.inputs) != 1:
        raise CompileError(f"the model has {len(graph.inputs)} inputs; the overlay takes one")
    info = graph.inputs[0]
    if not info.shape:
        raise CompileError(f"input {info.name!r} is a single number; the overlay takes maps")
    try:
        check_batch(calibration, info.name, info.shape, info.dtype)
        check_finite(calibration, info.name)
    except InputError as error:
        raise CalibrationError(str(error)) from error
    batch = info.shape[0] or 1
    if len(calibration) < batch:
        raise CalibrationError(
            f"input {info.name!r} takes {batch} words at a time, but there are "
            f"{len(calibration)}; give at least as many"
        )
