"""Schedules of the learning rate."""

import math

from trencadis_train.recipe import Recipe
from trencadis_train.training import schedule

__all__ = ["rate_at"]


def rate_at(recipe: Recipe, progress: float) -> float:
    """Learning rate of a part of the training that is done, 0..1."""
    training = recipe.training
    if recipe.sparse.schedule == "constant":
        return training.learning_rate
    if recipe.sparse.schedule == "cosine":
        return training.learning_rate * (1 + math.cos(math.pi * progress)) / 2
    return schedule.learning_rate(training, progress)
