"""Whether everything that computes a network agrees: devices, exact arithmetic, onnxruntime."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_compiler.compile import import_model, input_format, quantised_model
from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir import Network
from trencadis_compiler.reference import evaluate
from trencadis_host.device import DeviceOptions
from trencadis_host.packing import pack_inputs, unpack_outputs
from trencadis_host.session import Session
from trencadis_hw.container import Overlay

__all__ = ["Agreement", "onnxruntime_outputs", "reference_outputs", "reference_words", "verify"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Agreement:
    """How the outputs of one way of computing compare with exact arithmetic.

    Attributes
    ----------
    name : str
        Of the device, or `onnxruntime`.
    differing : int
        Outputs that are not equal.
    outputs : int
        Outputs compared.
    largest_steps : float
        Largest difference, in steps of the output's quantisation; of its values if it has none.
    """

    name: str
    differing: int
    outputs: int
    largest_steps: float


def reference_outputs(model: Path, overlay: Overlay, inputs: Array) -> Array:
    """The model's outputs in exact arithmetic, straight from the ONNX file."""
    return _network_outputs(import_model(model), overlay, inputs)


def _network_outputs(network: Network, overlay: Overlay, inputs: Array) -> Array:
    keys = overlay.input.keys(inputs).transpose(0, 3, 1, 2)
    return unpack_outputs(overlay, reference_words(network, overlay, keys))


def reference_words(
    network: Network, overlay: Overlay, keys: npt.NDArray[np.integer]
) -> npt.NDArray[np.uint8]:
    """Output words in exact arithmetic, as every device must give them.

    Parameters
    ----------
    network : Network
        What was compiled.
    overlay : Overlay
        What it was compiled to.
    keys : int array, shape (words, channels, rows, columns)
        Keys of the input.

    Returns
    -------
    uint8 array, shape (words, overlay.output_bytes)
        Where a word has no output, zeros.
    """
    outputs = evaluate(network, keys).transpose(0, 2, 3, 1)
    form = overlay.output
    places = np.zeros(
        (len(outputs), form.rows, form.columns, form.places), "<i4" if form.raw else np.uint8
    )
    places[..., list(form.order)] = outputs
    words = np.zeros((len(outputs), overlay.output_bytes), np.uint8)
    flat = places.reshape(len(outputs), -1).view(np.uint8)
    words[:, : flat.shape[1]] = flat
    return words


def onnxruntime_outputs(model: Path, inputs: Array) -> Array:
    """The model's outputs by onnxruntime, without graph optimisations.

    Raises
    ------
    CompileError
        If onnxruntime is missing or cannot run the model.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise CompileError(
            "comparing needs onnxruntime; install it with: pip install 'trencadis[compiler]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    declared = session.get_inputs()[0]
    size = declared.shape[0] if isinstance(declared.shape[0], int) else len(inputs)
    padded = np.concatenate([inputs, np.repeat(inputs[-1:], -len(inputs) % size, axis=0)])
    results = [
        np.asarray(session.run(None, {declared.name: padded[i : i + size]})[0])
        for i in range(0, len(padded), size)
    ]
    return np.concatenate(results)[: len(inputs)]


def _check_same_inputs(model: Path, network: Network, image: Path, overlay: Overlay) -> None:
    """Refuse an image of another model, or of one that was calibrated with other data."""
    ours = replace(input_format(network), nonzeros=overlay.input.nonzeros)
    for field in fields(ours):
        of_model, of_image = getattr(ours, field.name), getattr(overlay.input, field.name)
        if of_model != of_image:
            raise CompileError(
                f"{image}: its input has {field.name} {of_image}, but that of {model} has "
                f"{of_model}: it was compiled from another model, or with other calibration data; "
                "give the same, or compile it again"
            )


def verify(
    model: Path,
    image: Path,
    inputs: Array,
    devices: Sequence[str],
    *,
    calibration: Array | None = None,
    build_dir: Path = DeviceOptions.build_dir,
    timeout_s: float = DeviceOptions.timeout_s,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Agreement]:
    """Compute inputs in several ways and compare each with exact arithmetic.

    Parameters
    ----------
    model, image : Path
        The model, and what was compiled from it.
    inputs : array, shape (words, ...)
        As the model's input is declared.
    devices : sequence of str
        What to compare.
    calibration : array, optional
        What a float model was compiled with.
    build_dir, timeout_s, progress
        As in `Session`.

    Returns
    -------
    list of Agreement
        One for every device, and one for onnxruntime.

    Raises
    ------
    CompileError
        If the model cannot be compiled, or the image is of a model with other inputs.
    InputError
        If the inputs are not the model's.
    """
    overlay = Overlay.load(image)
    pack_inputs(overlay, inputs)  # wrong ones are refused before anything takes long
    progress("reading the model")
    with quantised_model(model, calibration) as (network, quantised):
        _check_same_inputs(model, network, image, overlay)
        progress("exact arithmetic")
        expected = _network_outputs(network, overlay, inputs)
        progress("onnxruntime")
        by_onnxruntime = onnxruntime_outputs(quantised, inputs)
    found = []
    for device in devices:
        progress(f"device {device}")
        with Session(
            image, device, build_dir=build_dir, timeout_s=timeout_s, progress=progress
        ) as session:
            name = session.get_inputs()[0].name
            found.append((device, session.run(None, {name: inputs})[0]))
    found.append(("onnxruntime", by_onnxruntime))
    step = 1.0 if overlay.output.raw or overlay.output.integer else overlay.output.scales[0]
    return [
        Agreement(
            name=name,
            differing=int(np.count_nonzero(outputs != expected)),
            outputs=expected.size,
            largest_steps=float(np.abs(outputs.astype(np.float64) - expected).max() / step),
        )
        for name, outputs in found
    ]
