"""Limits of a server."""

from dataclasses import dataclass, fields

__all__ = ["Limits"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a server, each answered with the protocol's own error.

    Attributes
    ----------
    request_bytes : int
        Bytes of a request.
    held_bytes : int
        Bytes of all requests that are under way.
    request_samples : int
        Samples (inputs along axis 0) of a request.
    batch : int
        Samples that are handed to a device together, unless one request has more.
    queue : int
        Requests that wait for a device.
    wait_ms : float
        Milliseconds that a request waits for others to share its batch, though a device is idle.
    timeout_s : float
        Seconds after which a request is given up.
    """

    request_bytes: int = 16 << 20
    held_bytes: int = 1 << 30
    request_samples: int = 4096
    batch: int = 256
    queue: int = 1024
    wait_ms: float = 0.0
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name == "wait_ms" else 1
            if not least <= value < float("inf"):
                raise ValueError(f"{field.name} must be at least {least} and finite, not {value}")
        if self.held_bytes < self.request_bytes:
            raise ValueError(
                f"held_bytes must be at least those of a request, {self.request_bytes}, not "
                f"{self.held_bytes}"
            )
