"""A float model as int8: quantised on calibration data, compared, and mended where it is spoilt."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from trencadis_compiler.errors import CompileError
from trencadis_compiler.importer.quantising.float_plan import (
    OUTPUT,
    FloatPlan,
    candidates,
    is_linear,
    plan_quantisers,
)
from trencadis_compiler.importer.quantising.insert_quantisers import Range, insert_quantisers
from trencadis_compiler.importer.quantising.likeness import Likeness, compare, means_of
from trencadis_compiler.importer.quantising.merge_float import merge_float
from trencadis_compiler.importer.quantising.ranges import METHODS, Method, find_ranges
from trencadis_compiler.importer.quantising.tensor_runs import TensorRuns, float_names
from trencadis_compiler.importer.reading.draft import Draft
from trencadis_compiler.importer.samples import Samples
from trencadis_compiler.importer.standard import StandardModel, standard_form
from trencadis_compiler.importer.steps.shapes import infer_shapes

__all__ = [
    "QuantiseOptions",
    "QuantisedCopy",
    "calibration_command",
    "is_float_model",
    "quantise_float",
]

MAX_TRIALS = 32
"""Copies that are made to find the nodes that spoil them; what is left then stays in float."""

JUDGED_SAMPLES = 64
"""Held-back samples that a copy is judged by."""

LAYER_SAMPLES = 4
"""Held-back samples on which the error of each layer is measured."""

QUANTISERS = ("QuantizeLinear", "DynamicQuantizeLinear")
"""Operators of which a float model has none; what only stores weights in few bits is one."""


@dataclass(frozen=True)
class QuantiseOptions:
    """Options of quantising.

    Attributes
    ----------
    method : str
        How ranges are found: "min-max", "entropy" or "percentile".
    percentile : float
        For that method: per cent of the numbers that are within the range.
    exclude : tuple of str
        Nodes that stay in float, by their names or those of their outputs.
    """

    method: Method = "min-max"
    percentile: float = 99.99
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise CompileError(
                f"quantising by {self.method!r}: no such method; choose {', '.join(METHODS)}"
            )
        if not 50 < self.percentile <= 100:
            raise CompileError(
                f"a percentile is more than 50 and at most 100, not {self.percentile:g}"
            )


@dataclass(frozen=True)
class QuantisedCopy:
    """The quantised copy of a float model.

    Attributes
    ----------
    model : ModelProto
        Plain QDQ ONNX, as it is judged and kept beside the image.
    standard : StandardModel
        The same in standard form.
    outputs : tuple of Likeness
        The copy's outputs beside those of the float model, on held-back samples.
    layers : tuple of Likeness
        The tensors of the layers, in order.
    kept : tuple of str
        Nodes that stay in float because they spoil the copy.
    unquantised : tuple of str
        Layers whose outputs stay in float for that reason, on their way to the host.
    excluded : tuple of str
        Nodes that stay in float because the options say so.
    calibrated, held_back : int
        Samples that ranges were found on, and that the copy was compared on.
    notes : tuple of str
        What a report should say.
    """

    model: onnx.ModelProto
    standard: StandardModel
    outputs: tuple[Likeness, ...]
    layers: tuple[Likeness, ...]
    kept: tuple[str, ...]
    unquantised: tuple[str, ...]
    excluded: tuple[str, ...]
    calibrated: int
    held_back: int
    notes: tuple[str, ...]


def is_float_model(model: onnx.ModelProto) -> bool:
    """Tell whether a model has no quantised activations, but something to quantise."""
    kinds = {node.op_type for node in model.graph.node}
    quantised = kinds.intersection(QUANTISERS) or any("Integer" in kind for kind in kinds)
    return not quantised and bool(kinds & {"Conv", "Gemm", "MatMul"})


def quantise_float(
    standard: StandardModel,
    samples: Samples,
    options: QuantiseOptions | None = None,
    *,
    progress: Callable[[str], None] = lambda text: None,
) -> QuantisedCopy:
    """Quantise a float model, such that its copy is the same function.

    Ranges are found on three quarters of the samples; the copy is compared on the others (on all if
    there are fewer than four). Where an output is spoilt (`Likeness.spoilt`), nodes stay in float,
    found by halving the list of nodes, until none is.

    Raises
    ------
    CompileError
        If the model cannot be run on the samples, an excluded node does not exist, or the model
        itself gives numbers that are not finite.
    """
    return _Quantising(standard, samples, options or QuantiseOptions(), progress).copy()


class _Quantising:
    def __init__(
        self,
        standard: StandardModel,
        samples: Samples,
        options: QuantiseOptions,
        progress: Callable[[str], None],
    ) -> None:
        self._standard = standard
        self._options = options
        self._progress = progress
        self._held, self._rest = _split(samples)
        self._float = merge_float(standard)
        self._nodes = candidates(self._float)
        self._excluded = self._named(options.exclude)
        outputs = [value.name for value in self._float.graph.output]
        self._outputs = float_names(self._float.model, outputs) or outputs
        self._label = str(standard.path)
        self._float_runs = TensorRuns(self._float.model, self._outputs, self._label)
        self._judged = self._held.part(0, JUDGED_SAMPLES)
        self._few = samples if self._judged.count < 2 else None
        roots = self._all_roots()
        progress("finding the ranges of activations")
        self._ranges: Mapping[str, Range] = find_ranges(
            self._float.model,
            roots,
            self._rest,
            method=options.method,
            percentile=options.percentile,
            label=self._label,
        )
        self._unbounded = [name for name in roots if name not in self._ranges]
        self._check_layers()
        self._trials = 0
        self._float_outputs: list[str] = []

    def copy(self) -> QuantisedCopy:
        """The copy, after as many trials as it takes."""
        kept: list[str] = []
        outputs: list[str] = []
        nodes = [name for name in self._nodes if name not in self._excluded]
        self._progress("comparing the quantised copy with the float model")
        results = self._judge(self._excluded)
        first = results
        if any(result.spoilt for result in results):
            outputs, results = self._without_outputs(results)
        if any(result.spoilt for result in results):
            self._float_outputs = outputs
            good = self._grown(self._least_noisy_first(nodes), frozenset())
            kept = [name for name in nodes if name not in good]
            results = self._judge([*self._excluded, *outputs, *kept])
        draft, plan = self._made([*self._excluded, *outputs, *kept])
        unquantised = [name.removesuffix(OUTPUT) for name in outputs]
        notes = self._notes(first, kept, [name for name in unquantised if name not in kept])
        model = onnx.ModelProto()
        model.CopyFrom(draft.model)
        standard = standard_form(draft.model, self._standard.path, self._standard.sha256)
        return QuantisedCopy(
            model=model,
            standard=replace(standard, notes=(*self._standard.notes, *standard.notes)),
            outputs=results,
            layers=self._layers(model, plan),
            kept=tuple(kept),
            unquantised=tuple(name for name in unquantised if name not in kept),
            excluded=tuple(self._excluded),
            calibrated=self._rest.count,
            held_back=self._judged.count,
            notes=tuple(notes),
        )

    def _without_outputs(
        self, results: tuple[Likeness, ...]
    ) -> tuple[list[str], tuple[Likeness, ...]]:
        """Leave outputs to the host in float, the noisiest first, until nothing is spoilt."""
        to_host = plan_quantisers(self._float, self._excluded, self._ranges).to_host
        noisiest = sorted(to_host, key=lambda name: -self._ranges[to_host[name]].noise)
        names: list[str] = []
        count = 1
        while noisiest and len(names) < len(noisiest) and any(r.spoilt for r in results):
            names = [f"{name}{OUTPUT}" for name in noisiest[:count]]
            results = self._judge([*self._excluded, *names])
            count *= 2
        return names, results

    def _least_noisy_first(self, nodes: Sequence[str]) -> list[str]:
        """Nodes by how much of what they read is lost in 8 bits."""
        reads = {node.name: node.input[0] for node in self._float.graph.node if node.input}
        noise = {
            name: self._ranges[reads[name]].noise if reads[name] in self._ranges else 0.0
            for name in nodes
        }
        return sorted(nodes, key=noise.__getitem__)

    def _notes(
        self, first: Sequence[Likeness], kept: Sequence[str], unquantised: Sequence[str]
    ) -> list[str]:
        notes = []
        if self._held is self._rest:
            notes.append(
                f"only {self._rest.count} calibration samples: the copy was compared on those that "
                "it was calibrated on; give four or more"
            )
        if self._unbounded:
            notes.append(
                f"{len(self._unbounded)} tensors, such as {self._unbounded[0]!r}, are not finite "
                "on the calibration data; they stay in float"
            )
        if kept or unquantised:
            worst = max((result for result in first if result.spoilt), key=lambda r: r.error)
            notes.append(
                f"quantised whole, output {worst.tensor!r} correlated {worst.correlation:.3f} with "
                f"the float model, its error {100 * worst.error:.2g} % of its range"
                + (f"; in float stay {', '.join(kept)}" if kept else "")
                + (
                    f"; in float stay the outputs of {', '.join(unquantised)}"
                    if unquantised
                    else ""
                )
            )
        return notes

    def _grown(self, nodes: Sequence[str], good: frozenset[str]) -> frozenset[str]:
        """Those of some nodes that may be quantised beside `good`: all, or found by halves."""
        if self._trials >= MAX_TRIALS:
            return good
        self._trials += 1
        self._progress(f"looking for the nodes that spoil the copy ({self._trials})")
        rest = [n for n in self._nodes if n not in good and n not in nodes]
        if not any(
            result.spoilt for result in self._judge([*self._excluded, *self._float_outputs, *rest])
        ):
            return good | set(nodes)
        if len(nodes) == 1:
            return good
        middle = len(nodes) // 2
        return self._grown(nodes[middle:], self._grown(nodes[:middle], good))

    def _made(self, kept: Sequence[str]) -> tuple[Draft, FloatPlan]:
        """The copy with some nodes in float."""
        model = onnx.ModelProto()
        model.CopyFrom(self._float.model)
        draft = Draft(model, self._standard.path)
        plan = plan_quantisers(draft, kept, self._ranges)
        insert_quantisers(draft, plan, self._ranges)
        infer_shapes(draft)
        return draft, plan

    def _judge(self, kept: Sequence[str]) -> tuple[Likeness, ...]:
        draft, _ = self._made(kept)
        runs = TensorRuns(draft.model, self._outputs, self._label)
        means = None
        if self._few is not None and self._few.count > 1:
            both = [means_of(r, self._outputs, self._few) for r in (self._float_runs, runs)]
            means = {name: (both[0][name], both[1][name]) for name in self._outputs}
        names = {name: name for name in self._outputs}
        return compare(self._float_runs, runs, names, self._judged, means)

    def _layers(self, model: onnx.ModelProto, plan: FloatPlan) -> tuple[Likeness, ...]:
        """The error of each layer's tensor, after quantising."""
        made = {name for node in model.graph.node for name in node.output}
        names = {}
        for tensor in plan.tensors:
            real = f"{tensor}_dequantised"
            names[tensor] = real if real in made else tensor
        shown = float_names(self._float.model, names)
        names = {name: names[name] for name in shown}
        few = self._judged.part(0, LAYER_SAMPLES)
        return compare(
            TensorRuns(self._float.model, list(names), self._label),
            TensorRuns(model, list(names.values()), self._label),
            names,
            few,
        )

    def _all_roots(self) -> list[str]:
        """Tensors whose ranges some plan may need: whatever of a float a node reads or makes."""
        names = {
            name for node in self._float.graph.node for name in (*node.input, *node.output) if name
        } - set(self._float.initialisers())
        return float_names(self._float.model, sorted(names))

    def _check_layers(self) -> None:
        """Tell whether the layers that are to be quantised read finite numbers."""
        constants = self._float.initialisers()
        for node in self._float.graph.node:
            wanted = is_linear(node, constants) and node.name not in self._excluded
            if wanted and node.input[0] in self._unbounded:
                raise CompileError(
                    f"{self._label}: tensor {node.input[0]!r} is not finite on the calibration "
                    "data; give other data, or mend the model"
                )

    def _named(self, names: Sequence[str]) -> list[str]:
        """The nodes that options name, by their names or their outputs'."""
        by_name = {
            name: node.name for node in self._float.graph.node for name in (node.name, *node.output)
        }
        for name in names:
            if name not in by_name:
                raise CompileError(
                    f"{self._standard.path}: no node or tensor {name!r} to exclude; see the layers "
                    "in the report"
                )
        return [by_name[name] for name in names]


def _split(samples: Samples) -> tuple[Samples, Samples]:
    """Held-back samples, and those to calibrate on; the same if there are fewer than four."""
    if samples.count < 4:
        return samples, samples
    held = samples.count // 4
    return samples.part(samples.count - held, samples.count), samples.part(0, samples.count - held)


def calibration_command(path: Path, standard: StandardModel) -> str:
    """The command that would take a float model."""
    inputs = [value.name for value in standard.model.graph.input]
    data = "data.npy" if len(inputs) == 1 else "data.npz"
    return f"sparse-compile {path} --calibration {data}"
