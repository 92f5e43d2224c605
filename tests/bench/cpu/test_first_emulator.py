from collections.abc import Callable
from typing import Any

import numpy as np

from trencadis_bench.cpu.first_emulator import FirstEmulator


def test_equals_exact_arithmetic(make_case: Callable[..., Any], spec: Any) -> None:
    case = make_case(spec, "groups", samples=20)
    assert np.array_equal(FirstEmulator(case.overlay).run(case.inputs), case.expected)
