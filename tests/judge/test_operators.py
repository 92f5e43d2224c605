"""The evaluator against the node tests of ONNX itself."""

import warnings
from collections import Counter
from typing import Any

import numpy as np
import pytest
from onnx.backend.test.case.node import collect_testcases

from trencadis_judge import JudgeError, judge

DIFFERENT_ON_PURPOSE = {
    # A window that begins in the padding: the test divides by what onnxruntime does not count.
    "test_averagepool_2d_ceil_last_window_starts_on_pad": "windows in the padding",
    # Sizes are rounded down before positions are computed, as onnxruntime does.
    "test_resize_downsample_scales_cubic_align_corners": "sizes that are no integers",
    "test_resize_downsample_scales_linear_align_corners": "sizes that are no integers",
    # The test's own numbers are in float16.
    "test_range_float16_type_positive_delta": "sums of float16",
}
"""Node tests that the evaluator does not follow."""


@pytest.mark.slow
def test_node_tests_of_onnx() -> None:
    np.random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    outcomes: Counter[str] = Counter()
    wrong = []
    for case in cases:
        if case.model is None or case.name in DIFFERENT_ON_PURPOSE:
            continue
        for inputs, outputs in case.data_sets or ():
            outcome = _judged(case.model, inputs, outputs)
            outcomes[outcome] += 1
            if outcome == "wrong":
                wrong.append(case.name)
    assert not wrong
    # Operators that no network here has: text, sequences, control flow, random numbers, training.
    assert outcomes["right"] > 1100, outcomes


def _judged(model: Any, inputs: Any, outputs: Any) -> str:
    names = [info.name for info in model.graph.input]
    made = [info.name for info in model.graph.output]
    values = {**dict(zip(names, inputs, strict=False)), **dict(zip(made, outputs, strict=False))}
    if not all(isinstance(value, np.ndarray | np.generic) for value in values.values()):
        return "no arrays"
    values = {name: np.asarray(value) for name, value in values.items()}
    try:
        found = judge(model, values, host=made, run_runtime=False)
    except JudgeError:
        return "refused"
    if any(unit.differing for unit in found.units):
        return "wrong"
    return "right" if all(unit.elements for unit in found.units) else "not evaluated"
