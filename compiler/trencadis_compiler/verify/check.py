"""The check that follows every compile: a few inputs, judged by the model's own file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_compiler.compile import Compiled
from trencadis_format.compiled import CompiledNetwork, OverlaySegment
from trencadis_format.errors import FailureError
from trencadis_format.tensor_formats import InputFormat, TensorFormat
from trencadis_host.errors import DeviceError
from trencadis_host.held import held_tensors, host_tensors, twice_made
from trencadis_judge import JudgeError, Judgement, judge, load_model

__all__ = ["Check", "VerificationError", "check_compiled", "few_inputs", "judge_compiled"]

Array = npt.NDArray[Any]

SAMPLES = 2
"""Samples that a compile is checked on, where the model leaves it open."""


class VerificationError(FailureError):
    """The compiled network is not what the model says. One line: node, tensor, how many differ."""


@dataclass(frozen=True)
class Check:
    """Result of a check.

    Attributes
    ----------
    samples : int
        Inputs that were tried.
    tensors : int
        Held tensors that were compared.
    elements : int
        Their elements.
    reason : str
        Why nothing was compared; empty if something was.
    """

    samples: int
    tensors: int
    elements: int
    reason: str = ""


def check_compiled(
    compiled: Compiled,
    inputs: Mapping[str, Array] | None = None,
    *,
    progress: Callable[[str], None] = lambda text: None,
) -> Check:
    """Compute a few inputs on the emulator and judge every tensor that is held.

    Parameters
    ----------
    compiled : Compiled
        What was compiled.
    inputs : mapping of str to array, optional
        Inputs; random ones if they are left out.
    progress : callable
        Called with a message at each step.

    Raises
    ------
    VerificationError
        Naming the first node that differs.
    """
    network = compiled.compiled
    feed = few_inputs(network) if inputs is None else dict(inputs)
    first = next(iter(feed.values()), None)
    samples = len(first) if first is not None and first.ndim else 1
    progress("computing a few inputs")
    try:
        held = held_tensors(network, feed)
    except DeviceError as error:
        if inputs is None:
            # Random numbers need not be inputs of the model: indices out of range, for one.
            return Check(0, 0, 0, f"random inputs cannot be computed: {error}")
        raise
    progress("judging by the model's file")
    try:
        found = judge_compiled(compiled, held)
    except JudgeError as error:
        return Check(0, 0, 0, f"the file cannot be judged: {error}")
    first_difference = found.first_difference
    if first_difference is not None:
        raise VerificationError(
            f"{network.name}: what was compiled is not what the model says, a bug in Trencadis: "
            f"{first_difference.node} gives {first_difference.differing} of "
            f"{first_difference.elements} numbers of {first_difference.tensor!r} otherwise; "
            "nothing was written; please report it"
        )
    return Check(samples, len(found.units), sum(unit.elements for unit in found.units))


def judge_compiled(compiled: Compiled, held: Mapping[str, Array]) -> Judgement:
    """Judge held tensors by the file that a network was compiled from.

    Raises
    ------
    JudgeError
        If the file cannot be judged.
    """
    model = load_model(compiled.judged)
    known = model.known(held)
    network = compiled.compiled
    return judge(
        model,
        known,
        host=host_tensors(network, known),
        aside=twice_made(network, known),
    )


def few_inputs(network: CompiledNetwork, seed: int = 0) -> dict[str, Array]:
    """Random inputs of a model, of its own batch size."""
    rng = np.random.default_rng(seed)
    feed = {form.name: _random(form, rng) for form in network.inputs}
    for segment in network.segments:
        if isinstance(segment, OverlaySegment) and segment.overlay.input.name in feed:
            _thin_out(feed[segment.overlay.input.name], segment.overlay.input)
    return feed


def _thin_out(array: Array, form: InputFormat) -> None:
    """Make zero what a sparse input may not have."""
    if form.nonzeros and form.nonzeros < form.channels:
        sizes = {"C": form.channels, "H": form.rows, "W": form.columns}
        maps = array.reshape(len(array), *(sizes[axis] for axis in form.axes))
        zero = form.zero_key - form.key_offset if array.dtype.kind in "iu" else 0
        np.moveaxis(maps, 1 + form.axes.index("C"), 1)[:, form.nonzeros :] = zero


def _random(form: TensorFormat, rng: np.random.Generator) -> Array:
    shape = tuple(
        size if size is not None else (SAMPLES if axis == 0 else 1)
        for axis, size in enumerate(form.shape)
    )
    dtype = np.dtype(form.dtype)
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.itemsize == 1:
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)
    return rng.integers(0, 2, shape).astype(dtype)
