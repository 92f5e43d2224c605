"""LSTM, GRU and RNN."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_judge.context import Context, Inputs, Operator, refuse, required
from trencadis_judge.node import Node
from trencadis_judge.values import Value

__all__ = ["OPERATORS"]

Reals = npt.NDArray[np.float64]
State = tuple[Reals, ...]

ROUNDINGS_PER_STEP = 64.0
"""Roundings of the functions and products by element in one step, at most."""


def _sigmoid(x: Reals) -> Reals:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _lstm(x: Reals, r: Reals, bias: Reals, state: State, node: Node) -> State:
    h, c = state
    i, o, f, g = np.split(x + h @ r.T + bias[1], 4, axis=-1)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


def _gru(x: Reals, r: Reals, bias: Reals, state: State, node: Node) -> State:
    (h,) = state
    z, reset, new = np.split(x, 3, axis=-1)
    rz, rr, rn = np.split(r, 3)
    bz, br, bn = np.split(bias[1], 3)
    z = _sigmoid(z + h @ rz.T + bz)
    reset = _sigmoid(reset + h @ rr.T + br)
    if node.attributes.get("linear_before_reset", 0):
        new = np.tanh(new + reset * (h @ rn.T + bn))
    else:
        new = np.tanh(new + (reset * h) @ rn.T + bn)
    return ((1 - z) * new + z * h,)


def _rnn(x: Reals, r: Reals, bias: Reals, state: State, node: Node) -> State:
    (h,) = state
    return (np.tanh(x + h @ r.T + bias[1]),)


CELLS: dict[str, tuple[Callable[..., State], int, int]] = {
    "GRU": (_gru, 3, 1),
    "LSTM": (_lstm, 4, 2),
    "RNN": (_rnn, 1, 1),
}
"""Step, gates and states of each kind."""


def _recurrent(context: Context, node: Node, inputs: Inputs) -> tuple[Value, ...]:
    step, gates, states = CELLS[node.op_type]
    plain = {"activations", "clip", "layout", "input_forget"} & node.attributes.keys()
    if any(node.attributes[name] for name in plain - {"activations"}):
        raise refuse(node, f"attribute {min(plain)}")
    if plain & {"activations"} and {"Sigmoid", "Tanh"} < {*node.attributes["activations"]}:
        raise refuse(node, "other activations than Sigmoid and Tanh")
    x, w, r = (required(node, inputs, i) for i in range(3))
    if any(value is not None and value.error is not None for value in inputs):
        raise refuse(node, "an input that is not exact")
    lengths = inputs[4] if len(inputs) > 4 else None
    if lengths is not None and np.any(lengths.array != x.shape[0]):
        raise refuse(node, "sequences of several lengths")
    if len(inputs) > 7 and inputs[7] is not None:
        raise refuse(node, "peepholes")
    length, batch, _ = x.shape
    directions, hidden = r.shape[0], r.shape[2]
    bias = inputs[3].array if len(inputs) > 3 and inputs[3] is not None else None
    outputs = np.zeros((length, directions, batch, hidden))
    last: list[State] = []
    for d in range(directions):
        both = np.zeros((2, gates * hidden)) if bias is None else bias[d].reshape(2, -1)
        first = [_initial(inputs, 5 + s, d, (batch, hidden)) for s in range(states)]
        state: State = tuple(first)
        order: Any = range(length)
        if d or node.attributes.get("direction", "forward") == "reverse":
            order = reversed(order)
        for t in order:
            state = step(x.array[t] @ w.array[d].T + both[0], r.array[d], both, state, node)
            outputs[t, d] = state[0]
        last.append(state)
    terms = float(x.shape[2] + hidden + ROUNDINGS_PER_STEP)
    size = max(1.0, float(np.abs(outputs).max(initial=0)))
    size *= max(1.0, float(np.abs(x.array).max(initial=0) * np.abs(w.array).max(initial=0)))
    results = [outputs, *(np.stack([state[s] for state in last]) for s in range(states))]
    return tuple(
        context.precision.result(
            array,
            x.dtype,
            None,
            None,
            roundings=terms * length,
            terms=np.full(array.shape, size),
        )
        for array in results
    )


def _initial(inputs: Inputs, position: int, direction: int, shape: tuple[int, int]) -> Reals:
    value = inputs[position] if position < len(inputs) else None
    return np.zeros(shape) if value is None else value.array[direction]


OPERATORS: dict[str, Operator] = dict.fromkeys(CELLS, _recurrent)
