from collections.abc import Callable
from typing import Any

import pytest

from trencadis_hw.config import EngineConfig


@pytest.fixture
def engine() -> Callable[..., EngineConfig]:
    """A small engine, with what a test wants to be different."""

    def make(**changes: Any) -> EngineConfig:
        fields: dict[str, Any] = {
            "lanes": 2,
            "tiles": 2,
            "kernels": 4,
            "dense_values": 32,
            "list_entries": 32,
            "weight_rows": 16,
            "queue_beats": 16,
            "requantisers": 2,
            "requantise_rows": 16,
            "reorder_rows": 16,
            "select_rows": 4,
            "layers": 4,
        }
        return EngineConfig(**(fields | changes))

    return make
