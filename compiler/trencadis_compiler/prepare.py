"""A model file as it is compiled: in standard form, quantised if need be, with what judges it."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx

from trencadis_compiler.errors import CompileError
from trencadis_compiler.importer.graph import Graph
from trencadis_compiler.importer.quantising.quantise_float import (
    calibration_command,
    is_float_model,
    quantise_float,
)
from trencadis_compiler.importer.samples import Samples, load_samples, match_samples
from trencadis_compiler.importer.standard import StandardModel, load_standard
from trencadis_compiler.options import Options

__all__ = ["Calibration", "Prepared", "Progress", "check_quantised", "named", "prepare"]

Array = npt.NDArray[Any]

Progress = Callable[[str], None]

Calibration = Path | Array | Mapping[str, Array]
"""Calibration data: a file or folder, or arrays as they would hold."""


@dataclass(frozen=True)
class Prepared:
    """A model, quantised if need be.

    Attributes
    ----------
    standard, quantised : StandardModel
        The model in standard form, and what is compiled: that, or its quantised copy.
    judged : Path or ModelProto
        What it is judged by: the model's own file, or the quantised copy.
    samples : Samples or None
        The calibration data.
    report : mapping
        What there is to say about quantising; JSON-ready.
    """

    standard: StandardModel
    quantised: StandardModel
    judged: Path | onnx.ModelProto
    samples: Samples | None
    report: Mapping[str, Any]

    @property
    def judged_sha256(self) -> str:
        """Digest of the quantised copy of a float model; empty if there is none."""
        if isinstance(self.judged, Path):
            return ""
        return hashlib.sha256(self.judged.SerializeToString(deterministic=True)).hexdigest()


def prepare(
    path: Path,
    calibration: Calibration | None,
    options: Options,
    progress: Progress = lambda text: None,
) -> Prepared:
    """Read a model, and quantise it if it is a float model and there is calibration data.

    Raises
    ------
    CompileError
        If the file is no model that can be read, or it cannot be quantised.
    CalibrationError
        If the calibration data are not the model's inputs.
    """
    standard = load_standard(path, input_shapes=options.input_shapes)
    if calibration is None:
        return Prepared(standard, standard, path, None, {})
    if isinstance(calibration, Path):
        samples = load_samples(calibration, standard.model)
    else:
        samples = match_samples(calibration, standard.model)
    if not is_float_model(standard.model):
        return Prepared(standard, standard, path, samples, {})
    progress("quantising")
    copy = quantise_float(standard, samples, options.quantise, progress=progress)
    report = {
        "quantised": {
            "kept_in_float": list(copy.kept),
            "excluded": list(copy.excluded),
            "calibrated": copy.calibrated,
            "held_back": copy.held_back,
            "outputs": [asdict(likeness) for likeness in copy.outputs],
            "layers": [asdict(likeness) for likeness in copy.layers],
            "notes": list(copy.notes),
        }
    }
    return Prepared(standard, copy.standard, copy.model, samples, report)


def check_quantised(graph: Graph, path: Path, standard: StandardModel) -> None:
    """Refuse a float model that calibration data would quantise."""
    quantisers = ("QuantizeLinear", "DequantizeLinear", "Quant")
    if any(node.op_type in quantisers for node in graph.nodes):
        return
    for node in graph.nodes:
        weights = [name for name in node.inputs[1:2] if name in graph.constants]
        if node.op_type in ("Conv", "Gemm", "MatMul") and weights:
            if graph.constants[weights[0]].dtype.kind != "f":
                continue
            raise CompileError(
                "a float model: its weights are not quantised; have that done with inputs of it: "
                + calibration_command(path, standard)
            )


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Put the file's name before an error."""
    try:
        yield
    except CompileError as error:
        raise CompileError(f"{path}: {error}") from error
