"""Trial of host segments: onnxruntime is asked while compiling.

Types that do not fit, and shapes that only a run finds, are told with the model at hand, not by the
session that opens the image.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_compiler.errors import CompileError
from trencadis_format.compiled import HostSegment
from trencadis_format.onnx_check import operators_of
from trencadis_format.onnxruntime_door import (
    MissingOnnxruntimeError,
    exact_mode,
    is_unsized,
    open_session,
)

__all__ = ["try_host_segment"]

TYPES = {
    "tensor(bool)": np.bool_,
    "tensor(double)": np.float64,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
}
"""Types of inputs that hold no shapes or indices: ones, by which all can divide or scale."""

CONTROL_FLOW = frozenset(("If", "Loop", "Scan"))
"""Operators whose way, and time, depends on the values."""

MAX_VALUES = 1 << 24
"""Values of inputs above which a segment is loaded, but not run."""


def try_host_segment(segment: HostSegment) -> None:
    """Load a host segment and, where its inputs have known sizes, run it on a sample of ones.

    Where onnxruntime is not installed nothing is done.

    Raises
    ------
    CompileError
        If onnxruntime refuses the segment.
    """
    operators = operators_of(segment.model)
    try:
        bounded, mode = is_unsized(operators), exact_mode(operators)
        session = open_session(segment.model, mode, threads=1, bounded=bounded)
        samples = [_ones(value) for value in session.get_inputs()]
        known = [array for array in samples if array is not None]
        if len(known) < len(samples) or CONTROL_FLOW.intersection(operators):
            return
        if sum(array.size for array in known) > MAX_VALUES:
            return
        session.run(None, dict(zip((v.name for v in session.get_inputs()), known, strict=True)))
    except MissingOnnxruntimeError:
        return
    except Exception as error:  # onnxruntime raises kinds of its own
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        raise CompileError(
            f"nodes that are left to the host cannot be run, starting at {segment.nodes[0]!r}: "
            f"onnxruntime says {_line(error)}"
        ) from error


def _ones(value: Any) -> npt.NDArray[Any] | None:
    """A sample of an input; None if its sizes, beside the batch, or its type leave that open."""
    shape: Sequence[int | str | None] = value.shape
    if value.type not in TYPES or any(not isinstance(size, int) for size in shape[1:]):
        return None
    sizes = [size if isinstance(size, int) else 1 for size in shape]
    if min(sizes, default=1) < 0 or np.prod(sizes, dtype=np.float64) > MAX_VALUES:
        return None
    return np.ones(sizes, TYPES[value.type])


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
