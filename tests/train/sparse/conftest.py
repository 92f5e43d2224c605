from collections.abc import Callable
from typing import Any

import pytest

from trencadis_train.recipe import Recipe, parse_recipe

SPARSE: dict[str, Any] = {
    "name": "tiny",
    "seed": 3,
    "engine": "sparse",
    "data": {"set": "npz"},
    "layer": [
        {"kind": "linear", "units": 24, "dropout": 0.1},
        {"kind": "linear", "units": 16},
        {"kind": "linear", "units": 4},
    ],
    "training": {"epochs": 6, "batch": 16, "learning_rate": 0.02, "weight_decay": 1e-5},
    "sparse": {"epsilon": 4, "schedule": "cosine"},
    "quantisation": {"epochs": 2, "calibration": 64},
}

MakeSparse = Callable[..., Recipe]


@pytest.fixture
def make_sparse() -> MakeSparse:
    """Makes a recipe of a sparse network; tables are merged into its own."""

    def make(**changes: Any) -> Recipe:
        data = {**SPARSE}
        for name, value in changes.items():
            merge = isinstance(value, dict) and name in data
            data[name] = {**data[name], **value} if merge else value
        return parse_recipe(data)

    return make
