"""Compare what an image computes with its model's own file, layer by layer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from trencadis_compiler.compile import import_model
from trencadis_compiler.errors import CompileError
from trencadis_compiler.exact.reference import evaluate
from trencadis_compiler.importer.standard import load_standard
from trencadis_compiler.ir.network import Network
from trencadis_compiler.kept_calibration import find_calibration
from trencadis_compiler.options import options_of
from trencadis_compiler.prepare import Calibration, prepare
from trencadis_format.compiled import CompiledNetwork, OverlaySegment
from trencadis_format.errors import InputError
from trencadis_format.onnxruntime_door import exact_mode, open_session
from trencadis_format.overlay import Overlay
from trencadis_format.tensors import unpack_outputs
from trencadis_host.devices.protocol import DeviceOptions
from trencadis_host.held import held_tensors, host_tensors, twice_made
from trencadis_host.session import Session
from trencadis_judge import Judgement, judge, load_model

__all__ = [
    "Agreement",
    "Verification",
    "onnxruntime_outputs",
    "reference_outputs",
    "reference_samples",
    "verify",
]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Agreement:
    """Comparison of a device's outputs with the emulator's, which are judged.

    Attributes
    ----------
    name : str
        Name of the device.
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


@dataclass(frozen=True)
class Verification:
    """The judge's findings on what the emulator holds, and how devices compare with it.

    Attributes
    ----------
    judgement : Judgement
        Judgement by the model's own file.
    devices : tuple of Agreement
        One for every device.
    """

    judgement: Judgement
    devices: tuple[Agreement, ...]

    @property
    def ok(self) -> bool:
        """True if nothing differs."""
        return self.judgement.ok and not any(device.differing for device in self.devices)


def reference_outputs(model: Path, overlay: Overlay, inputs: Array) -> Array:
    """The model's outputs in exact arithmetic, straight from the ONNX file."""
    return _network_outputs(import_model(model), overlay, inputs)


def _network_outputs(network: Network, overlay: Overlay, inputs: Array) -> Array:
    keys = overlay.input.keys(inputs).transpose(0, 3, 1, 2)
    return unpack_outputs(overlay, reference_samples(network, overlay, keys))


def reference_samples(
    network: Network, overlay: Overlay, keys: npt.NDArray[np.integer]
) -> npt.NDArray[np.uint8]:
    """Packed outputs in exact arithmetic, as every device must give them.

    Parameters
    ----------
    network : Network
        What was compiled.
    overlay : Overlay
        What it was compiled to.
    keys : int array, shape (samples, channels, rows, columns)
        Keys of the input.

    Returns
    -------
    uint8 array, shape (samples, overlay.output_bytes)
        Where a sample has no output, zeros.
    """
    outputs = evaluate(network, keys).transpose(0, 2, 3, 1)
    form = overlay.output
    places = np.zeros(
        (len(outputs), form.rows, form.columns, form.places), "<i4" if form.raw else np.uint8
    )
    places[..., list(form.order)] = outputs
    samples = np.zeros((len(outputs), overlay.output_bytes), np.uint8)
    flat = places.reshape(len(outputs), -1).view(np.uint8)
    samples[:, : flat.shape[1]] = flat
    return samples


def onnxruntime_outputs(model: Path, inputs: Array) -> Array:
    """The model's outputs by onnxruntime, in the mode that is exact for its operators.

    Raises
    ------
    CompileError
        If onnxruntime cannot run the model.
    MissingOnnxruntimeError
        If it is not installed.
    """
    operators = load_model(model)
    mode = exact_mode(node.op_type for node in operators.nodes)
    try:
        session = open_session(operators.proto.SerializeToString(), mode)
    except Exception as error:
        # onnxruntime raises kinds of its own for what it cannot run.
        reason = " ".join(str(error).split())[:160]
        raise CompileError(f"{model}: onnxruntime cannot run it: {reason}") from error
    declared = session.get_inputs()[0]
    size = declared.shape[0] if isinstance(declared.shape[0], int) else len(inputs)
    padded = np.concatenate([inputs, np.repeat(inputs[-1:], -len(inputs) % size, axis=0)])
    results = [
        np.asarray(session.run(None, {declared.name: padded[i : i + size]})[0])
        for i in range(0, len(padded), size)
    ]
    return np.concatenate(results)[: len(inputs)]


def verify(
    model: Path,
    image: Path,
    inputs: Array | Mapping[str, Array],
    devices: Sequence[str],
    *,
    calibration: Calibration | None = None,
    build_dir: Path | None = None,
    timeout_s: float = DeviceOptions.timeout_s,
    progress: Callable[[str], None] = lambda text: None,
) -> Verification:
    """Judge what an image computes by its model's own file, and compare devices.

    Parameters
    ----------
    model, image : Path
        The model, and what was compiled from it.
    inputs : array, shape (samples, ...), or mapping of str to array
        Inputs as the model's input is declared, or all of its inputs by name.
    devices : sequence of str
        What to compare with the emulator, bit for bit.
    calibration : Path, array or mapping, optional
        What a float model was compiled with; by default what the image tells.
    build_dir, timeout_s, progress
        As in `Session`.

    Raises
    ------
    CompileError
        If the model cannot be compiled, or the image is of a model with other inputs.
    InputError
        If the inputs are not the model's.
    JudgeError
        If the file cannot be judged.
    """
    network = CompiledNetwork.load(image)
    feed = _feed(network, inputs)
    progress("reading the model")
    judged = _judged(model, image, network, calibration, progress)
    progress("layer by layer on the emulator")
    whole, samples = _whole_batches(network, feed)
    held = held_tensors(network, whole)
    progress("judging by the model's file")
    yardstick = load_model(judged)
    known = yardstick.known(held)
    judgement = judge(
        yardstick,
        known,
        host=host_tensors(network, known),
        aside=twice_made(network, known),
    )
    expected = {form.name: held[form.name][:samples] for form in network.outputs}
    found = []
    for device in devices:
        progress(f"device {device}")
        with Session(
            image, device, build_dir=build_dir, timeout_s=timeout_s, progress=progress
        ) as session:
            outputs = session.run(None, whole if samples is None else feed)
        found.append(_agreement(device, outputs, list(expected.values()), _step(network)))
    return Verification(judgement, tuple(found))


def _feed(network: CompiledNetwork, inputs: Array | Mapping[str, Array]) -> dict[str, Array]:
    """Inputs by name.

    Raises
    ------
    InputError
        If they are not those of the network.
    """
    names = [form.name for form in network.inputs]
    if not isinstance(inputs, Mapping):
        if len(names) != 1:
            raise InputError(
                f"the model has {len(names)} inputs; give an .npz file with arrays named "
                f"{', '.join(names)}"
            )
        return {names[0]: inputs}
    if set(inputs) != set(names):
        raise InputError(
            f"the inputs are called {', '.join(inputs) or 'nothing'}; the model's are "
            f"{', '.join(names)}"
        )
    return dict(inputs)


def _agreement(
    name: str, outputs: Sequence[Array], expected: Sequence[Array], step: float
) -> Agreement:
    """Compare a device's outputs with those expected."""
    differing, largest = 0, 0.0
    for ours, theirs in zip(outputs, expected, strict=True):
        first, second = np.asarray(ours), np.asarray(theirs)
        same = np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
        if same or first.shape != second.shape:
            differing += 0 if same else second.size
            continue
        differing += int(np.count_nonzero(first != second))
        gap = np.abs(first.astype(np.float64) - second.astype(np.float64))
        largest = max(largest, float(gap.max()))
    return Agreement(name, differing, sum(array.size for array in expected), largest / step)


def _judged(
    model: Path,
    image: Path,
    network: CompiledNetwork,
    calibration: Calibration | None,
    progress: Callable[[str], None],
) -> Path | onnx.ModelProto:
    """The file to judge by: the one that the image was compiled from, or its quantised copy.

    Raises
    ------
    CompileError
        If it is another one, or the copy cannot be made again.
    """
    source = network.source
    if not source.sha256:
        return model  # it was made of layers alone, and does not tell
    options, _ = options_of(image, source)
    standard = load_standard(model, input_shapes=options.input_shapes)
    if standard.sha256 not in (source.sha256, source.judged_sha256):
        raise CompileError(
            f"{image}: was compiled from another model than {model}; give that one, or compile "
            "this one"
        )
    if not source.judged_sha256 or standard.sha256 == source.judged_sha256:
        return model
    if calibration is None:
        calibration = find_calibration(image, model, source)
    progress("quantising the model as it was for the image")
    copy = prepare(model, calibration, options, progress)
    if copy.judged_sha256 != source.judged_sha256:
        raise CompileError(
            f"{image}: was compiled with other calibration data than given here, or its quantised "
            "copy comes out otherwise on this processor; give that copy (quantised.onnx of its "
            "--report) in place of the model"
        )
    return copy.judged


def _step(network: CompiledNetwork) -> float:
    """A step of the first output's quantisation; 1 if it has none."""
    last = network.segments[-1]
    if isinstance(last, OverlaySegment):
        form = last.overlay.output
        return 1.0 if form.raw or form.integer else form.scales[0]
    return 1.0


def _whole_batches(
    network: CompiledNetwork, feed: Mapping[str, Array]
) -> tuple[dict[str, Array], int | None]:
    """Inputs with the last sample repeated until the model's own batches are full.

    And how many samples there are, None if the model's first axis is no batch.
    """
    size = network.fixed_batch or (1 if network.open_batch else None)
    if size is None:
        return dict(feed), None
    whole = {
        name: np.concatenate([array, np.repeat(array[-1:], -len(array) % size, axis=0)])
        for name, array in feed.items()
    }
    return whole, len(next(iter(feed.values()), ()))
