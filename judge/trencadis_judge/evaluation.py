"""Evaluating the nodes between held tensors."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_judge.context import Context
from trencadis_judge.errors import JudgeError, UnsupportedOperatorError
from trencadis_judge.exact import exact_element
from trencadis_judge.graph import JudgedModel
from trencadis_judge.node import Node
from trencadis_judge.operators.arithmetic import add
from trencadis_judge.operators.sparse_products import sparse_product
from trencadis_judge.sparse import SparseMatrix
from trencadis_judge.table import OPERATORS
from trencadis_judge.values import Precision, Value, nearest, value_of

__all__ = ["Evaluation"]

UNORDERED = frozenset(
    (
        ("GatherElements", 1),
        ("Scatter", 1),
        ("Scatter", 2),
        ("ScatterElements", 1),
        ("ScatterElements", 2),
    )
)
"""Operators and inputs to which the order of a TopK's outputs is all the same."""

Reals = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Evaluation:
    """One evaluation of nodes of a model, from tensors that are given.

    Parameters
    ----------
    model : JudgedModel
        The model.
    given : mapping of str to Value
        Tensors whose values are known; nodes that make them are not evaluated.
    precision : Precision
        float64, with ties decided exactly, or the model's own types, with bounds alone.
    """

    def __init__(
        self, model: JudgedModel, given: Mapping[str, Value], precision: Precision
    ) -> None:
        self._model = model
        self._given = given
        self._computed: dict[str, Value] = {}
        self._elements: dict[tuple[str, tuple[int, ...]], Fraction] = {}
        self._context = Context(precision, self.exact)

    def run(self, targets: Iterable[str]) -> dict[str, Value]:
        """Compute tensors as their nodes say, given ones included.

        Raises
        ------
        UnsupportedOperatorError
            If a node between is not evaluated.
        """
        targets = tuple(targets)
        made: dict[str, Value] = {}
        for number in self._model.cone(targets, self._given):
            node = self._model.nodes[number]
            for name, value in zip(node.outputs, self._outputs(node), strict=False):
                made[name] = value
                if name not in self._given:
                    self._computed[name] = value
        return {name: made[name] if name in made else self.value(name) for name in targets}

    def value(self, name: str) -> Value:
        """A tensor that is given, constant, or computed already."""
        for known in (self._given, self._computed):
            if name in known:
                return known[name]
        constant = self._model.constant(name)
        if constant is None:
            raise JudgeError(f"the values of {name!r} are missing; give them")
        if isinstance(constant, SparseMatrix):
            constant = constant.dense()
        value = self._computed[name] = value_of(constant)
        return value

    def exact(self, name: str, index: tuple[int, ...]) -> Fraction:
        """The exact number of an element, by rational arithmetic."""
        key = (name, index)
        if key not in self._elements:
            value = self.value(name)
            if value.error is None or value.error[index] == 0:
                number: Any = value.array[index]
                self._elements[key] = Fraction(
                    float(number) if value.array.dtype == np.float64 else int(number)
                )
            else:
                node = self._model.nodes[self._model.producers[name]]
                self._elements[key] = exact_element(self, node, index)
        return self._elements[key]

    def rounded(self, name: str, value: Value) -> tuple[Reals, Flags | None]:
        """A computed tensor of real numbers, rounded to its type, half to even.

        Returns
        -------
        (float64 array, bool array or None)
            The numbers, and where neither float64 nor rational arithmetic could decide.
        """
        with np.errstate(over="ignore"):
            rounded = value.array.astype(value.dtype).astype(np.float64)
            if value.error is None:
                return rounded, None
            ends = [
                (value.array + sign * value.error).astype(value.dtype).astype(np.float64)
                for sign in (-1, 1)
            ]
        unsure = np.zeros(value.shape, np.bool_)
        for index in np.argwhere(ends[0] != ends[1]):
            place = tuple(int(number) for number in index)
            try:
                exact = self.exact(name, place)
            except UnsupportedOperatorError:
                unsure[place] = True
                continue
            rounded[place] = nearest(exact, value.dtype)
        return rounded, unsure if unsure.any() else None

    def _outputs(self, node: Node) -> tuple[Value, ...]:
        operator = OPERATORS.get(node.op_type)
        if operator is None:
            raise UnsupportedOperatorError(f"{node}: the evaluator has no such operator")
        sparse = self._sparse_product(node)
        if sparse is not None:
            return (sparse,)
        if node.op_type == "TopK" and not node.attributes.get("sorted", 1):
            self._check_order_unread(node)
        inputs = [self.value(name) if name else None for name in node.inputs]
        try:
            with np.errstate(all="ignore"):
                result = operator(self._context, node, inputs)
        except JudgeError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, ZeroDivisionError) as error:
            # Shapes that do not fit, attributes of a wrong type: a file may have anything.
            reason = " ".join(str(error).split())[:120]
            raise UnsupportedOperatorError(f"{node}: cannot be evaluated ({reason})") from error
        return result if isinstance(result, tuple) else (result,)

    def _check_order_unread(self, topk: Node) -> None:
        """Refuse an order that no standard tells, unless values go back to where they were."""
        for node in self._model.nodes:
            for position, name in enumerate(node.inputs):
                if name in topk.outputs and (node.op_type, position) not in UNORDERED:
                    raise UnsupportedOperatorError(
                        f"{topk}: {node} reads an order that sorted=0 leaves open"
                    )

    def _sparse_product(self, node: Node) -> Value | None:
        """MatMul or Gemm whose matrix the file stores as non-zeros, without writing zeros out."""
        if node.op_type not in ("MatMul", "Gemm") or node.inputs[1] in self._computed:
            return None
        matrix = self._model.sparse_constant(node.inputs[1])
        plain = all(node.attributes.get(name, 1.0) == 1.0 for name in ("alpha", "beta"))
        if matrix is None or not plain or node.attributes.get("transA", 0):
            return None
        turned = bool(node.attributes.get("transB", 0))
        precision = self._context.precision
        product = sparse_product(precision, self.value(node.inputs[0]), matrix, turned=turned)
        if len(node.inputs) > 2 and node.inputs[2]:
            return add(self._context, product, self.value(node.inputs[2]))
        return product
