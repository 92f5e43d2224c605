"""Tensors of the Open Inference Protocol as arrays, and back."""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_serve.errors import InvalidRequestError

__all__ = [
    "DATATYPES",
    "array_from_bytes",
    "array_from_list",
    "check_count",
    "datatype_of",
    "dtype_of_node",
]

Array = npt.NDArray[Any]

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""Types of the protocol. BYTES is not among them: networks take numbers."""

NODE_TYPES = {"float": "float32", "double": "float64", "float16": "float16"}
JSON_TYPES = {"b": {bool}, "u": {int}, "i": {int}, "f": {int, float}}
"""Types of JSON values, for kinds of NumPy's types."""

MAX_TENSORS = 1024
"""Inputs of a request, and outputs that it asks for."""

MAX_AXES = 32
MAX_VALUES = 1 << 40


def dtype_of_node(kind: str) -> np.dtype[Any]:
    """The type of an input or output that `NodeArg.type` names, such as `tensor(float)`."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    return np.dtype(NODE_TYPES.get(name, name))


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The protocol's name of a type."""
    return next(name for name, known in DATATYPES.items() if known == dtype)


def check_count(kind: str, count: int) -> None:
    """Refuse requests with too many inputs or outputs.

    Raises
    ------
    InvalidRequestError
        If there are too many.
    """
    if count > MAX_TENSORS:
        raise InvalidRequestError(f"{kind}: a request may have {MAX_TENSORS}, not {count}")


def array_from_bytes(name: str, datatype: str, shape: Sequence[Any], data: bytes) -> Array:
    """An array from raw little-endian bytes; read-only, for it shares them.

    Raises
    ------
    InvalidRequestError
        If type, shape and bytes do not fit each other.
    """
    dtype, sizes = _checked(name, datatype, shape)
    if len(data) != math.prod(sizes) * dtype.itemsize:
        raise InvalidRequestError(
            f"input {name!r:.60}: {datatype} {list(sizes)} takes "
            f"{math.prod(sizes) * dtype.itemsize} bytes, not {len(data)}"
        )
    if dtype == np.bool_ and data.translate(None, b"\0\1"):
        raise InvalidRequestError(f"input {name!r:.60}: a BOOL is a byte 0 or 1")
    return np.frombuffer(data, dtype).reshape(sizes)


def array_from_list(name: str, datatype: str, shape: Sequence[Any], data: Any) -> Array:
    """An array from JSON numbers, flat or nested.

    Raises
    ------
    InvalidRequestError
        If they are no numbers of the type, or not as many as the shape says.
    """
    dtype, sizes = _checked(name, datatype, shape)
    count = math.prod(sizes)
    flat = _flat(data, count) if isinstance(data, list) else [None]
    if not JSON_TYPES[dtype.kind].issuperset(map(type, flat)):
        raise InvalidRequestError(f"input {name!r:.60}: its data are not a list of {datatype}")
    if len(flat) != count:
        raise InvalidRequestError(
            f"input {name!r:.60}: {list(sizes)} takes {count} values, not {len(flat)}"
        )
    values = np.array(flat) if flat else np.empty(0, dtype)
    if dtype.kind in "iu" and values.size:
        limits = np.iinfo(dtype)
        if int(values.min()) < limits.min or int(values.max()) > limits.max:
            raise InvalidRequestError(
                f"input {name!r:.60}: a value is outside the range of {datatype}"
            )
    with np.errstate(over="ignore"):  # a number too large for float32 is refused as infinite
        return values.astype(dtype).reshape(sizes)


def _flat(data: list[Any], count: int) -> list[Any]:
    """The values of a list that may be nested; lists that are not of one length stay in it.

    NumPy is shown numbers only: a list of strings takes as many bytes as the longest of them times
    their number, a list of lists a Python call for each.
    """
    flat = data
    for _ in range(MAX_AXES):
        if len(flat) > count or set(map(type, flat)) != {list} or len(set(map(len, flat))) > 1:
            break
        flat = list(chain.from_iterable(flat))
    return flat


def _checked(name: str, datatype: Any, shape: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
    dtype = DATATYPES.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        known = ", ".join(DATATYPES)
        raise InvalidRequestError(
            f"input {name!r:.60}: datatype {datatype!r:.40} is not one of {known}"
        )
    sizes = tuple(shape) if isinstance(shape, (list, tuple)) else ()
    right = all(
        isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in sizes
    )
    if not right or not 1 <= len(sizes) <= MAX_AXES or math.prod(sizes) > MAX_VALUES:
        raise InvalidRequestError(
            f"input {name!r:.60}: its shape must be a list of 1 to {MAX_AXES} sizes, "
            f"not {shape!r:.60}"
        )
    return dtype, sizes
