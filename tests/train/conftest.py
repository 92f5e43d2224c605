import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from trencadis_train.data.labelled import Labelled, Splits
from trencadis_train.recipe import Recipe, parse_recipe

if TYPE_CHECKING:
    from trencadis_train.training.finished import Finished

TINY: dict[str, Any] = {
    "name": "tiny",
    "seed": 3,
    "data": {"set": "npz"},
    "augment": {"shift": 1},
    "layer": [
        {"kind": "conv", "units": 8, "window": 3, "ways": 2, "pool": 2, "winners": 2},
        {"kind": "conv", "units": 8, "window": 3, "ways": 4, "winners": 2},
        {"kind": "linear", "units": 16, "ways": 4, "winners": 4},
        {"kind": "linear", "units": 4},
    ],
    "training": {"epochs": 3, "batch": 16, "winners_warm_up": 0.3, "boost": 0.5},
    "quantisation": {"epochs": 2, "calibration": 64},
}

MakeRecipe = Callable[..., Recipe]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Sums of several threads depend on how many there are, and tiny networks gain nothing."""
    if importlib.util.find_spec("torch") is not None:
        import torch

        torch.set_num_threads(1)


@pytest.fixture
def make_recipe() -> MakeRecipe:
    """Makes a recipe of a network that learns in a second; tables are merged into its own."""

    def make(**changes: Any) -> Recipe:
        data = {**TINY}
        for name, value in changes.items():
            merge = isinstance(value, dict) and name in data
            data[name] = {**data[name], **value} if merge else value
        return parse_recipe(data)

    return make


@pytest.fixture(scope="session")
def quadrants() -> Splits:
    """Noisy pictures of 12x12 pixels in which a quadrant is bright; its number is the class."""
    rng = np.random.default_rng(5)

    def part(count: int) -> Labelled:
        labels = np.arange(count) % 4
        images = rng.integers(0, 120, (count, 12, 12))
        for image, label in zip(images, labels, strict=True):
            row, column = 6 * (label // 2), 6 * (label % 2)
            image[row : row + 6, column : column + 6] += 90
        return Labelled(images.astype(np.uint8), labels.astype(np.int64))

    return Splits(part(96), part(40), part(40), tuple("abcd"), credit="nobody")


@pytest.fixture
def quadrants_file(quadrants: Splits, tmp_path: Path) -> Path:
    """The same as an `.npz`."""
    parts = [part for _, part in quadrants.parts]
    path = tmp_path / "data.npz"
    np.savez(
        path,
        images=np.concatenate([part.images for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        class_names=np.array(quadrants.classes),
        split=np.repeat(np.arange(3, dtype=np.uint8), [len(part) for part in parts]),
    )
    return path


@pytest.fixture(scope="session")
def trained(quadrants: Splits) -> "Finished":
    """A finished training of the tiny network."""
    from trencadis_train.training.trainer import Trainer

    return Trainer(parse_recipe(TINY), quadrants).run()
