"""The safetensors container: its header, with metadata in a fixed order."""

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from trencadis_format.manifest import object_of

__all__ = ["container_metadata", "container_parts", "digest_of"]


def container_parts(tensors: Mapping[str, bytes], metadata: Mapping[str, str]) -> Iterator[bytes]:
    """Header and tensors; safetensors' own writer would put the metadata in any order."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    start = 0
    for name, data in tensors.items():
        end = start + len(data)
        header[name] = {"dtype": "U8", "shape": [len(data)], "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    yield from tensors.values()


def container_metadata(data: bytes) -> dict[str, Any]:
    """The metadata of a container, which safetensors' NumPy loader leaves out."""
    if len(data) < 8:
        raise ValueError(f"{len(data)} bytes are no container")
    (length,) = struct.unpack("<Q", data[:8])
    if length > len(data) - 8:
        raise ValueError("the container is truncated")
    header = json.loads(data[8 : 8 + length].decode())
    return object_of(object_of(header, "header").get("__metadata__"), "metadata")


def digest_of(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()
