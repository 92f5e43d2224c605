"""PyTorch networks as ONNX files, in the ways that people export them."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from trencadis_bench.models.architectures import ARCHITECTURES, example_input
from trencadis_bench.models.quantised_exports import FORMS, quantise_static

__all__ = ["WAYS", "Way", "export", "export_architecture"]

Way = Literal["new", "old", "old-open-batch", "qdq", "qoperator"]

WAYS: tuple[Way, ...] = ("new", "old", "old-open-batch", "qdq", "qoperator")
"""The exporter that is PyTorch's default (weights beside the model), the one before it, and that
with an open batch size; that of the old one, quantised by onnxruntime (`quantised_exports`)."""

OLD_OPSET = 13


def export_architecture(name: str, way: Way, folder: Path) -> Path:
    """Export one of the usual networks; the same each time."""
    if way in FORMS:
        source = export_architecture(name, "old", folder)
        return quantise_static(source, folder / f"{name}-{way}.onnx", way)
    make, shape = ARCHITECTURES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network = make()
    return export(network, (example_input(shape),), folder / f"{name}-{way}.onnx", way)


def export(
    network: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    path: Path,
    way: Way,
    names: tuple[str, ...] = ("x",),
) -> Path:
    """Export a network for inference."""
    network.eval()
    options: dict[str, Any] = {"input_names": list(names), "output_names": ["y"]}
    if way == "new":
        options |= {"dynamo": True, "external_data": True}
    else:
        options |= {"dynamo": False, "opset_version": OLD_OPSET}
    if way == "old-open-batch":
        options["dynamic_axes"] = {name: {0: "N"} for name in (*names, "y")}
    with _quiet():
        torch.onnx.export(network, inputs, str(path), **options)
    return path


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporters say about themselves off the terminal."""
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
