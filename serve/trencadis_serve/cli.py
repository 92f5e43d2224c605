"""The command `sparse-serve`."""

import importlib
import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from rich.console import Console

from trencadis_format.command_line import reported
from trencadis_format.errors import UserError
from trencadis_serve.endpoints import Endpoints
from trencadis_serve.limits import Limits
from trencadis_serve.model import ModelSpec

__all__ = ["main", "missing"]

DEFAULT = Limits()

NEWEST_PYTHON = (3, 14)
"""The markers of the extra `serve` say the same."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("models", metavar="[NAME[@VERSION]=]MODEL.tcd...", nargs=-1, required=True)
@click.option("--name", help="Name of the model, if there is one.  [default: the file's stem]")
@click.option(
    "--device",
    "devices",
    multiple=True,
    default=["auto"],
    show_default=True,
    help="Device; several share the requests.",
)
@click.option("--host", default=Endpoints.host, show_default=True, help="Address to listen on.")
@click.option("--port", default=Endpoints.port, show_default=True, help="Port of REST and metrics.")
@click.option("--grpc-port", default=Endpoints.grpc_port, show_default=True, help="Port of gRPC.")
@click.option("--no-grpc", is_flag=True, help="Serve REST only.")
@click.option(
    "--metrics-path",
    default=Endpoints.metrics_path,
    show_default=True,
    help="Path of the metrics in Prometheus' format.",
)
@click.option("--max-batch", default=DEFAULT.batch, show_default=True, help="Samples in a batch.")
@click.option(
    "--max-wait-ms",
    default=DEFAULT.wait_ms,
    show_default=True,
    help="Milliseconds that a request waits for others though a device is idle.",
)
@click.option("--max-queue", default=DEFAULT.queue, show_default=True, help="Requests that wait.")
@click.option(
    "--max-request-mib",
    default=DEFAULT.request_bytes >> 20,
    show_default=True,
    help="Size of a request.",
)
@click.option(
    "--max-held-mib",
    default=DEFAULT.held_bytes >> 20,
    show_default=True,
    help="Size of all requests that are under way.",
)
@click.option(
    "--max-request-samples",
    default=DEFAULT.request_samples,
    show_default=True,
    help="Samples in a request.",
)
@click.option(
    "--timeout", default=DEFAULT.timeout_s, show_default=True, help="Seconds for a request."
)
def main(
    models: tuple[str, ...],
    name: str | None,
    devices: tuple[str, ...],
    host: str,
    port: int,
    grpc_port: int,
    no_grpc: bool,
    metrics_path: str,
    max_batch: int,
    max_wait_ms: float,
    max_queue: int,
    max_request_mib: int,
    max_held_mib: int,
    max_request_samples: int,
    timeout: float,
) -> None:
    """Serve compiled networks by the Open Inference Protocol (KServe v2), over REST and gRPC.

    A model is called after its file unless a name is given. It listens on this machine only unless
    --host says otherwise. SIGTERM ends it after the requests that were accepted.
    """
    console = Console(stderr=True, highlight=False)
    _log_to_stderr()
    with reported("sparse-serve"):
        specs = [_spec(text, devices) for text in models]
        if name is not None:
            if len(specs) != 1:
                raise UserError("--name is for one model; give several as NAME=FILE")
            specs = [ModelSpec(_valid(name), specs[0].version, specs[0].path, devices)]
        try:
            limits = Limits(
                request_bytes=max_request_mib << 20,
                held_bytes=max_held_mib << 20,
                request_samples=max_request_samples,
                batch=max_batch,
                queue=max_queue,
                wait_ms=max_wait_ms,
                timeout_s=timeout,
            )
        except ValueError as error:
            raise UserError(f"limits: {error}") from None
        for option, value in (("--port", port), ("--grpc-port", grpc_port)):
            if not 0 <= value <= 0xFFFF:
                raise UserError(f"{option} must be a port, 0 to 65535, not {value}")
        if not metrics_path.startswith("/") or "{" in metrics_path:
            raise UserError(f"--metrics-path must be a path such as /metrics, not {metrics_path!r}")
        endpoints = Endpoints(
            host=host,
            port=port,
            grpc_port=None if no_grpc else grpc_port,
            metrics_path=metrics_path,
        )

        def started(running: Any) -> None:
            names = ", ".join(dict.fromkeys(spec.name for spec in specs))
            grpc = f", gRPC on port {running.grpc_port}" if running.grpc_port else ""
            console.print(
                f"serving {names}: http://{host}:{running.port}/v2{grpc}; Ctrl-C ends it",
                soft_wrap=True,
            )
            sys.stderr.flush()

        _server().serve(specs, limits, endpoints, started=started)


def _server() -> ModuleType:
    """The module that serves, which needs packages that the rest of the program does not.

    Raises
    ------
    UserError
        If they are not there.
    """
    try:
        return importlib.import_module("trencadis_serve.server")
    except ImportError as error:
        raise UserError(missing(error.name or "?", sys.version_info[:2])) from error


def missing(module: str, version: tuple[int, int]) -> str:
    """Remedy for a missing module, on a version of Python."""
    if version > NEWEST_PYTHON:
        newest, found = (".".join(map(str, each)) for each in (NEWEST_PYTHON, version))
        return (
            f"serving needs Python 3.11 to {newest}, not {found}: packages that it uses are not "
            "made for that; install Trencadis in an environment with an older Python"
        )
    return (
        f"serving is not installed (there is no module {module!r}); "
        "install it: pip install 'trencadis[serve]'"
    )


def _log_to_stderr() -> None:
    """Say when devices are lost and come back; what clients do wrong is only their concern."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("sparse-serve: %(message)s"))
    logging.getLogger("trencadis_serve").handlers = [handler]
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


def _spec(text: str, devices: tuple[str, ...]) -> ModelSpec:
    """A model from `[NAME[@VERSION]=]FILE`; a file whose own name has a "=" is found first."""
    path, name, version = Path(text), "", "1"
    if not path.exists() and "=" in text:
        name, _, rest = text.partition("=")
        name, at, version = name.partition("@")
        path, version = Path(rest), version if at else "1"
    return ModelSpec(_valid(name or path.stem), _valid(version), path, devices)


def _valid(name: str) -> str:
    """A name that can stand in a path of the protocol."""
    if not name or len(name) > 128 or not all(c.isalnum() or c in "._-" for c in name):
        raise UserError(
            f"model name or version {name!r:.60}: up to 128 letters, digits, '.', '_' and '-'; "
            "give another: NAME=FILE"
        )
    return name
