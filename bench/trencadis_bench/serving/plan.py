"""Plans of loads, and their results."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from trencadis_format.files import write_atomically

__all__ = ["Loaded", "Plan", "Sample"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Requests that are sent, by how many clients, for how long.

    Attributes
    ----------
    protocol : str
        `http` or `grpc`.
    address : str
        Host and port.
    path : str
        Path of the URL, over HTTP.
    server : int
        Process whose CPU time and memory are looked at.
    request, answer : path
        The bytes that every request has, and those that its answer must end with.
    json_length : int
        Length of the JSON at the beginning of the request, over HTTP.
    clients : int
        Number of clients that send at the same time.
    seconds : float
        How long to measure, unless `requests` is not 0.
    requests : int
        Number of requests to measure.
    warm_s : float
        Seconds before.
    sample_s : float
        Seconds between two looks at the server's memory.
    """

    protocol: str
    address: str
    path: str
    server: int
    request: Path
    answer: Path
    json_length: int
    clients: int
    seconds: float
    requests: int = 0
    warm_s: float = 0.5
    sample_s: float = 1.0

    def write(self, path: Path) -> None:
        """Write it for another process."""
        texts = {
            key: str(value) if isinstance(value, Path) else value
            for key, value in asdict(self).items()
        }
        write_atomically(path, json.dumps(texts).encode())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote."""
        values: dict[str, Any] = json.loads(path.read_bytes())
        values |= {key: Path(values[key]) for key in ("request", "answer")}
        return cls(**values)


@dataclass(frozen=True)
class Sample:
    """A look at the server: requests answered so far, its CPU seconds, its memory in MiB."""

    requests: int
    cpu_s: float
    rss_mib: float


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Result of a load; times of requests that failed are not among the percentiles."""

    seconds: float
    requests: int
    errors: int
    first_error: str
    p50_ms: float
    p99_ms: float
    server_cpu_s: float
    client_cpu_s: float
    samples: Sequence[Sample] = field(default_factory=tuple)

    @classmethod
    def of_json(cls, text: str) -> Self:
        """Make it from what the loading process prints."""
        values: dict[str, Any] = json.loads(text)
        samples = [Sample(**sample) for sample in values.pop("samples")]
        return cls(**values, samples=samples)
