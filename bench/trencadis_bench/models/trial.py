"""One model tried as a user would: compiled, judged, counted."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from trencadis_bench.models.collection import Candidate
from trencadis_bench.models.packages import PackageError
from trencadis_compiler.importer.quantising.quantise_float import is_float_model
from trencadis_compiler.importer.standard import load_standard
from trencadis_format.errors import UserError

__all__ = ["Trial", "attempt"]

SAMPLES = 8
"""Calibration samples, and inputs to be judged by, of small models."""

TRIAL_SAMPLES = 4

IMAGE_AXES = 4

LARGE_INPUT = 1 << 16
"""Numbers of an input from which on there are few."""


@dataclass(frozen=True)
class Trial:
    """Outcome of a model.

    Attributes
    ----------
    model : str
        Its name.
    accepted : bool
        Whether it compiled.
    overlay_share : float or None
        Multiplications on the overlay, of all.
    compile_s : float
        Seconds, judging not included.
    outputs, different : int
        Numbers that were judged, and those that are not what the model says.
    reason : str
        Why it was refused, or why what is not on the overlay is not.
    """

    model: str
    accepted: bool
    overlay_share: float | None
    compile_s: float
    outputs: int
    different: int
    reason: str


def attempt(candidate: Candidate, board: Path, folder: Path, *, timeout_s: float) -> Trial:
    """Try one model.

    Parameters
    ----------
    candidate : Candidate
        The model.
    board : Path
        The board's file.
    folder : Path
        Where what is compiled is written.
    timeout_s : float
        After this a compile is given up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        path = candidate.make()
    except PackageError as error:
        return Trial(candidate.name, False, None, 0, 0, 0, str(error))
    command = [
        *(str(Path(sys.executable).with_name("sparse-compile")), str(path), "--json"),
        *("--board", str(board), "-o", str(folder / "model.tcd"), "--no-advice"),
    ]
    if candidate.shape:
        command += ["--input-shape", candidate.shape]
    try:
        shapes = _shapes(candidate.shape)
        standard = load_standard(path, input_shapes=shapes)
    except UserError as error:
        return Trial(candidate.name, False, None, 0, 0, 0, _reason(str(error), path))
    if is_float_model(standard.model):
        data = folder / "calibration.npz"
        np.savez(data, **_inputs(standard.model, seed=1))
        command += ["--calibration", str(data)]
    started = time.monotonic()
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        return Trial(
            candidate.name, False, None, timeout_s, 0, 0, f"not compiled in {timeout_s:g} s"
        )
    seconds = time.monotonic() - started
    if result.returncode:
        lines = result.stderr.strip().splitlines() or ["no message"]
        wrong = int("not what the model says" in lines[-1])
        return Trial(candidate.name, False, None, seconds, 0, wrong, _reason(lines[-1], path))
    return _counted(candidate, json.loads(result.stdout), seconds)


def _counted(candidate: Candidate, report: dict[str, Any], seconds: float) -> Trial:
    verified = report.get("verified", {})
    on_host = [
        f"{segment['reason']} ({len(segment['nodes'])} nodes)"
        for segment in report.get("segments", [])
        if segment["place"] == "host" and segment.get("reason")
    ]
    reason = "; ".join([*dict.fromkeys(on_host), *filter(None, [verified.get("reason")])])
    return Trial(
        candidate.name,
        True,
        report.get("overlay_share"),
        seconds,
        verified.get("elements", 0),
        0,
        reason,
    )


def _reason(text: str, path: Path) -> str:
    text = text.removeprefix("sparse-compile: ")
    return text.removeprefix(f"{path}: ")


def _shapes(text: str) -> dict[str, tuple[int, ...]]:
    if not text:
        return {}
    name, _, sizes = text.rpartition("=")
    return {name: tuple(map(int, sizes.split("x")))}


def _inputs(model: onnx.ModelProto, seed: int) -> dict[str, Any]:
    """Random inputs: normal numbers, whole ones for integers that index a vocabulary.

    Networks of Keras read images as bytes: what is normalised is normalised inside.
    """
    rng = np.random.default_rng(seed)
    bytes_ = model.producer_name == "tf2onnx"
    shapes = {
        value.name: [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
        for value in model.graph.input
    }
    large = any(np.prod(shape, dtype=np.int64) > LARGE_INPUT for shape in shapes.values())
    samples = TRIAL_SAMPLES if large else SAMPLES
    found = {}
    for value in model.graph.input:
        shape = shapes[value.name] or [1]
        shape[0] *= samples
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if np.dtype(kind).kind == "f" and bytes_ and len(shape) == IMAGE_AXES:
            found[value.name] = rng.uniform(0, 255, shape).astype(kind)
        elif np.dtype(kind).kind == "f":
            found[value.name] = rng.normal(size=shape).astype(kind)
        elif "mask" in value.name:
            found[value.name] = np.ones(shape, kind)
        else:
            found[value.name] = rng.integers(0, 100, shape).astype(kind)
    return found
