"""Inference requests and replies over REST: JSON, then the bytes of binary tensors."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from trencadis_serve.errors import InvalidRequestError
from trencadis_serve.model import ServedModel
from trencadis_serve.tensors import (
    DATATYPES,
    array_from_bytes,
    array_from_list,
    check_count,
    datatype_of,
)

__all__ = ["JSON_LENGTH", "InferCall", "decode_body", "decode_object", "encode_reply"]

JSON_LENGTH = "Inference-Header-Content-Length"
"""Header with the length of the JSON before binary tensors."""


Array = npt.NDArray[Any]


@dataclass(frozen=True)
class InferCall:
    """A request to infer.

    Attributes
    ----------
    identity : str or None
        The request's `id`, returned with the reply.
    feed : mapping of str to array
        Inputs by name.
    outputs : list of str
        Outputs that are asked for; none for all.
    binary : mapping of str to bool
        Outputs of which is said how they are to be returned.
    all_binary : bool
        How the others are.
    """

    identity: str | None
    feed: Mapping[str, Array]
    outputs: Sequence[str]
    binary: Mapping[str, bool]
    all_binary: bool


def decode_object(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises
    ------
    InvalidRequestError
        If it is none.
    """
    try:
        with _no_collection():
            value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(f"the request is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidRequestError("the request must be a JSON object")
    return value


@contextmanager
def _no_collection() -> Iterator[None]:
    """Look for no garbage while JSON becomes objects: it has none, and millions take seconds."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def decode_body(body: bytes, json_length: str | None) -> InferCall:
    """A request from its body and its header `JSON_LENGTH`, if it has one.

    Raises
    ------
    InvalidRequestError
        If it is not one of the protocol.
    """
    if json_length is None:
        return _decode_call(decode_object(body), b"")
    right = json_length.isascii() and json_length.isdecimal()
    if not right or not int(json_length[:20]) <= len(body):
        raise InvalidRequestError(
            f"{JSON_LENGTH} must be the length of the JSON before the tensors, at most "
            f"{len(body)}, not {json_length!r:.40}"
        )
    length = int(json_length[:20])
    return _decode_call(decode_object(body[:length]), body[length:])


def _decode_call(message: Mapping[str, Any], tail: bytes) -> InferCall:
    """A request from its JSON and the bytes after it.

    Raises
    ------
    InvalidRequestError
        If it is not one of the protocol.
    """
    identity = message.get("id")
    if identity is not None and not isinstance(identity, str):
        raise InvalidRequestError("the request's id must be a string")
    feed: dict[str, Array] = {}
    place = 0
    for entry in _entries(message, "inputs", required=True):
        name = entry["name"]
        if name in feed:
            raise InvalidRequestError(f"input {name!r:.60} is given twice")
        size = _parameters(entry).get("binary_data_size")
        datatype, shape = entry.get("datatype"), entry.get("shape")
        if size is None:
            feed[name] = array_from_list(name, datatype, shape, entry.get("data"))  # type: ignore[arg-type]
            continue
        if "data" in entry or not _is_count(size) or place + size > len(tail):
            raise InvalidRequestError(
                f"input {name!r:.60}: binary_data_size must be a number of the {len(tail) - place} "
                "bytes that are left after the JSON, and data absent"
            )
        feed[name] = array_from_bytes(name, datatype, shape, tail[place : place + size])  # type: ignore[arg-type]
        place += size
    if place != len(tail):
        raise InvalidRequestError(f"{len(tail) - place} bytes after the last tensor belong to none")
    outputs = _entries(message, "outputs", required=False)
    binary = {
        entry["name"]: flag
        for entry in outputs
        if isinstance(flag := _parameters(entry).get("binary_data"), bool)
    }
    everything = _parameters(message).get("binary_data_output") is True
    return InferCall(identity, feed, [entry["name"] for entry in outputs], binary, everything)


def encode_reply(
    model: ServedModel, call: InferCall, places: Sequence[int], outputs: Sequence[Array]
) -> tuple[bytes, int | None]:
    """A reply, and the length of its JSON if binary tensors follow it."""
    entries, tail = [], []
    for place in places:
        array = np.ascontiguousarray(outputs[place])
        name = model.outputs[place].name
        datatype = datatype_of(array.dtype)
        entry: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": datatype}
        if call.binary.get(name, call.all_binary):
            tail.append(array.astype(DATATYPES[datatype], copy=False).tobytes())
            entry["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            entry["data"] = array.ravel().tolist()
        entries.append(entry)
    reply: dict[str, Any] = {
        "model_name": model.spec.name,
        "model_version": model.spec.version,
        "outputs": entries,
    }
    if call.identity is not None:
        reply["id"] = call.identity
    text = orjson.dumps(reply)
    return b"".join([text, *tail]), len(text) if tail else None


def _entries(message: Mapping[str, Any], key: str, *, required: bool) -> list[dict[str, Any]]:
    """The list of inputs or outputs, each an object with a name."""
    entries = message.get(key)
    if entries is None and not required:
        return []
    right = isinstance(entries, list) and all(
        isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in entries
    )
    if not right or (required and not entries):
        raise InvalidRequestError(f"{key} must be a list of objects with a name")
    assert isinstance(entries, list)
    check_count(key, len(entries))
    return entries


def _parameters(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = entry.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidRequestError("parameters must be an object")
    return parameters


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
