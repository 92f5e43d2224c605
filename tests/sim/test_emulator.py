from collections.abc import Callable
from typing import Any

import numpy as np

from trencadis_sim.emulator import Emulator


def test_equals_exact_arithmetic(make_case: Callable[..., Any], spec: Any, kernel: str) -> None:
    case = make_case(spec, kernel, words=20)
    with Emulator(case.overlay) as device:
        outputs, statistics = device.run(case.inputs)
    assert np.array_equal(outputs, case.expected)
    assert len(np.unique(outputs, axis=0)) > 10
    assert statistics.words == 20
    assert statistics.cycles is None
