"""A request to attack, what is hostile in it, and damage of bytes."""

import json
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "LIMITS",
    "MAX_BODY_BYTES",
    "MAX_SAMPLES",
    "Attack",
    "Target",
    "damaged",
    "hostile_value",
]

MAX_BODY_BYTES = 1 << 20
MAX_SAMPLES = 8

LIMITS = (f"--max-request-mib={MAX_BODY_BYTES >> 20}", f"--max-request-samples={MAX_SAMPLES}")
"""Options of a server that is attacked: small, so that attacks on limits are fast."""

VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1 << 31,
    1 << 63,
    1 << 64,
    10**30,
    -(1 << 63),
    1e308,
    1e-320,
    0.5,
    float("nan"),
    float("-inf"),
    "",
    "a",
    "\0",
    "line\nbreak",
    "\u202e\ufffe",
    "A" * 5000,
    [],
    {},
    [[]],
    [{}],
    [None],
    [1, "a"],
    [[1, 2], [3]],
    {"a": {"a": {"a": None}}},
    [0] * 40,
    "../../../etc/passwd",
    "%s%n{}",
    "NaN",
    "BYTES",
    "FP64",
    "INT8",
    "BOOL",
)


@dataclass(frozen=True)
class Attack:
    """A request that a server should survive.

    Attributes
    ----------
    kind : str
        What is wrong with it.
    protocol : str
        `http`, `grpc`, or `raw` for bytes on a connection.
    path : str
        Path of the URL, or of the gRPC method.
    body : bytes
        What is sent.
    method, headers
        Method and headers of HTTP.
    hopeless : bool
        No server may accept it; others may be harmless by chance.
    """

    kind: str
    protocol: str
    path: str
    body: bytes
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = ()
    hopeless: bool = False


@dataclass(frozen=True)
class Target:
    """A model of one float32 input: its names, and the input's shape without the batch."""

    model: str
    input: str
    output: str
    shape: tuple[int, ...]

    def values(self, samples: int) -> npt.NDArray[np.float32]:
        """Numbers that the model takes."""
        count = samples * int(np.prod(self.shape))
        return (np.arange(count, dtype=np.float32) % 7 - 3).reshape(samples, *self.shape)

    def message(self, samples: int) -> dict[str, Any]:
        """A right request in JSON; the tensor is a list of samples."""
        entry = {
            "name": self.input,
            "datatype": "FP32",
            "shape": [samples, *self.shape],
            "data": [sample.ravel().tolist() for sample in self.values(samples)],
        }
        return {"id": "1", "inputs": [entry]}

    def binary(self, samples: int) -> tuple[bytes, bytes]:
        """A right request with a binary tensor: its JSON, and the tensor."""
        raw = self.values(samples).tobytes()
        entry = {
            "name": self.input,
            "datatype": "FP32",
            "shape": [samples, *self.shape],
            "parameters": {"binary_data_size": len(raw)},
        }
        return json.dumps({"inputs": [entry]}).encode(), raw


def hostile_value(rng: random.Random) -> Any:
    """Something that is rarely expected."""
    return rng.choice(VALUES)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Bytes with one to four changes: flipped, cut out, repeated, inserted, cut off."""
    array = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(array) + 1)
        size = rng.randint(1, 8)
        change = rng.randrange(5)
        if change == 0 and place < len(array):
            array[place] ^= 1 << rng.randrange(8)
        elif change == 1:
            del array[place : place + size]
        elif change == 2:
            array[place:place] = array[place : place + size]
        elif change == 3:
            array[place:place] = bytes(rng.randrange(256) for _ in range(size))
        elif rng.random() < 0.3:
            del array[place:]
    return bytes(array)
