"""Endpoints: the addresses on which a server listens."""

from dataclasses import dataclass

__all__ = ["Endpoints"]

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """The addresses on which a server listens.

    Attributes
    ----------
    host : str
        Address; the loopback address unless told otherwise.
    port : int
        Port of REST and metrics; 0 for any free one.
    grpc_port : int or None
        Port of gRPC; None for none.
    metrics_path : str
        Path of the metrics.
    """

    host: str = LOOPBACK
    port: int = 8080
    grpc_port: int | None = 8081
    metrics_path: str = "/metrics"
