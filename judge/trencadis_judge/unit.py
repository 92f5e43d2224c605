"""One held tensor against the nodes that make it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_judge.errors import UnsupportedOperatorError
from trencadis_judge.evaluation import Evaluation
from trencadis_judge.graph import JudgedModel
from trencadis_judge.grids import on_grid
from trencadis_judge.operators.functions import FUNCTIONS
from trencadis_judge.runtime import RuntimeUnit, constant_bytes
from trencadis_judge.values import Precision, Value, is_real, real_value, value_of
from trencadis_judge.verdict import UnitVerdict

__all__ = ["UnitJudge"]

Array = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]

ROUNDING = frozenset(("Ceil", "Floor", "Round"))
"""Operators that round and leave real numbers."""


class UnitJudge:
    """Judges one tensor, part by part.

    Parameters
    ----------
    model : JudgedModel
        The model.
    name : str
        The tensor.
    held : collection of str
        Tensors whose values are given.
    types : dict of str to dtype
        Types of held tensors in the file, as far as they are known; this one's is added.
    host : bool
        The host's runtime makes the tensor.
    max_runtime_bytes : int
        Constants above which onnxruntime is not run; below zero: never.
    """

    def __init__(
        self,
        model: JudgedModel,
        name: str,
        held: set[str],
        types: dict[str, np.dtype[Any]],
        *,
        host: bool,
        max_runtime_bytes: int,
    ) -> None:
        self._model, self._name, self._types, self._host = model, name, types, host
        nodes = model.cone([name], held - {name})
        read = {other for number in nodes for other in model.reads(model.nodes[number])}
        self._nodes = nodes
        # A function of constants is what a runtime makes of it, to the last digits of its type.
        self._rounds = host or _has_constant_functions(model, nodes)
        self.boundary = sorted((read & held) - {name})
        self._reason = ""
        size = constant_bytes(model, nodes)
        self._runs = 0 <= size <= max_runtime_bytes
        if not self._runs and max_runtime_bytes >= 0:
            self._reason = (
                f"onnxruntime was not run: {size:,} bytes of constants, more than "
                f"{max_runtime_bytes:,}"
            )
        self._runtime: RuntimeUnit | None = None
        self._elements = self._differing = self._undecided = 0
        self._largest = 0.0
        self._runtime_differing = self._unexplained = 0
        self._ran = False
        self.misshapen = False
        """The tensor has another shape than the file's nodes make: nothing after it is judged."""

    def add(self, ours: Array, given: Mapping[str, Array]) -> None:
        """Judge a part: the tensor, and the held tensors it is made from."""
        feed = {name: self._typed(name, array) for name, array in given.items()}
        exact = feed
        if not self._host:
            exact = {name: on_grid(self._model, name, value) for name, value in feed.items()}
        evaluation = Evaluation(self._model, exact, Precision(float64=not self._rounds))
        result = None
        try:
            result = evaluation.run([self._name])[self._name]
        except UnsupportedOperatorError as error:
            self._reason = str(error)
        if result is not None:
            self._types[self._name] = result.dtype
            if ours.shape != result.shape:
                self.misshapen = True
                self._elements += result.array.size
                self._differing += result.array.size
                self._reason = (
                    f"it has shape {list(ours.shape)}, but the file's nodes make "
                    f"{list(result.shape)}"
                )
                return
            self._compare(ours, result, evaluation)
        self._types.setdefault(self._name, self._type_in_file(self._name, _file_type(ours)))
        if self._runs:
            self._run(ours, feed, given, result)

    def verdict(self) -> UnitVerdict:
        """The verdict on all parts."""
        return UnitVerdict(
            tensor=self._name,
            node=str(self._model.nodes[self._model.producers[self._name]]),
            host=self._host,
            elements=self._elements,
            differing=self._differing,
            undecided=self._undecided,
            largest=self._largest,
            runtime_differing=self._runtime_differing if self._ran else None,
            runtime_unexplained=self._unexplained,
            reason=self._reason,
        )

    def _typed(self, name: str, array: Array) -> Value:
        dtype = self._type_in_file(name, self._types.get(name, _file_type(array)))
        if is_real(dtype) and array.dtype.kind in "iu":
            # A file may round to integers and keep them as real numbers, as QONNX's lowering does.
            return real_value(array.astype(np.float64), dtype)
        value = value_of(array)
        return replace(value, dtype=dtype) if is_real(dtype) == is_real(value.dtype) else value

    def _type_in_file(self, name: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """A tensor's type, of real numbers where integers are what a rounding gave."""
        producer = self._model.producers.get(name)
        if producer is not None and self._model.nodes[producer].op_type in ROUNDING:
            return np.dtype(np.float32) if not is_real(dtype) else dtype
        return dtype

    def _compare(self, ours: Array, result: Value, evaluation: Evaluation) -> None:
        numbers = ours.astype(np.float64) if is_real(ours.dtype) else ours
        if self._rounds:
            allowed = _allowed(result)
            right = _within(numbers, result.array, allowed)
        elif is_real(result.dtype):
            rounded, unsure = evaluation.rounded(self._name, result)
            right = _same(numbers, rounded)
            if result.error is None:
                right |= _same(numbers, result.array)
            if unsure is not None:
                right |= unsure & _within(numbers, result.array, _allowed(result))
                self._undecided += int(unsure.sum())
        else:
            right = _within(numbers, result.array, result.errors)
            self._undecided += int(np.count_nonzero(result.errors))
        self._elements += ours.size
        self._differing += int(np.count_nonzero(~right))
        if not right.all():
            gap = np.abs(numbers.astype(np.float64) - result.array)[~right]
            self._largest = max(self._largest, float(np.max(gap, initial=0.0)))

    def _run(
        self,
        ours: Array,
        feed: Mapping[str, Value],
        given: Mapping[str, Array],
        result: Value | None,
    ) -> None:
        """Run the nodes in onnxruntime as well."""
        dtype = self._types[self._name]
        try:
            if self._runtime is None:
                inputs = {name: value.dtype for name, value in feed.items()}
                self._runtime = RuntimeUnit(self._model, self._nodes, inputs, {self._name: dtype})
            arrays = {name: _in_type(given[name], feed[name].dtype) for name in feed}
            theirs = self._runtime.run(arrays)[self._name]
        except Exception as error:
            # onnxruntime raises kinds of its own for what it cannot run.
            reason = " ".join(str(error).split())[:160]
            self._reason = self._reason or f"onnxruntime cannot run the nodes: {reason}"
            self._runs = False
            return
        self._ran = True
        different = ~_same(_in_type(ours, dtype), theirs)
        self._runtime_differing += int(np.count_nonzero(different))
        if result is None:
            # Only the runtime itself can say what its operator does.
            self._elements += ours.size
            self._differing += int(np.count_nonzero(different))
            return
        if self._rounds:
            bound = result
        elif np.array_equal(theirs, result.array):
            return
        else:
            evaluation = Evaluation(self._model, feed, Precision(float64=False))
            try:
                bound = evaluation.run([self._name])[self._name]
            except UnsupportedOperatorError:
                return  # float32 may flip a winner: whatever follows is no bound on anything
        explained = _within(theirs.astype(np.float64), bound.array, _allowed(bound))
        self._unexplained += int(np.count_nonzero(~explained))


def _has_constant_functions(model: JudgedModel, nodes: list[int]) -> bool:
    """Return whether functions that no arithmetic makes exactly are applied to constants."""
    constant = {*model.initializers, *model.sparse_initializers}
    for number in nodes:
        node = model.nodes[number]
        if constant.issuperset(model.reads(node)):
            constant.update(node.outputs)
            if node.op_type in FUNCTIONS:
                return True
    return False


def _file_type(array: Array) -> np.dtype[Any]:
    """Type in the file of an array that is given; real numbers are float32 unless it says so."""
    return np.dtype(np.float32) if array.dtype == np.float64 else array.dtype


def _in_type(array: Array, dtype: np.dtype[Any]) -> Array:
    return array if array.dtype == dtype else array.astype(dtype)


def _same(first: Array, second: Array) -> Flags:
    """Compare elements; what is not a number equals itself."""
    equal = np.asarray(first == second)
    if first.dtype.kind == "f" and second.dtype.kind == "f":
        equal |= np.isnan(first) & np.isnan(second)
    return equal


def _allowed(result: Value) -> Array:
    """Bound of a runtime's element's distance from the exact number, its last rounding included."""
    if not is_real(result.dtype):
        return result.errors
    precision = Precision(float64=False)
    last = np.abs(result.array) * precision.unit(result.dtype) + precision.tiny(result.dtype)
    return result.errors * (1 + 2.0**-10) + last


def _within(numbers: Array, exact: Array, allowed: Array) -> Flags:
    with np.errstate(invalid="ignore"):
        near = np.abs(numbers.astype(np.float64) - exact) <= allowed
    return near | _same(numbers, exact) | np.isinf(allowed)
