"""Schedules: what changes in a training, as functions of its progress from 0 to 1."""

import math

from trencadis_train.recipe import DynamicMasks, Training

__all__ = ["boost", "drop_fraction", "learning_rate", "winners"]


def learning_rate(training: Training, progress: float) -> float:
    """One cycle: up from a 25th of the peak, then down to nothing, along cosines."""
    if progress < training.warm_up:
        rise = (1 - math.cos(math.pi * progress / training.warm_up)) / 2
        return training.learning_rate * (0.04 + 0.96 * rise)
    rest = max(1 - training.warm_up, 1e-9)
    fall = (1 + math.cos(math.pi * min(1.0, (progress - training.warm_up) / rest))) / 2
    return training.learning_rate * max(fall, 1e-5)


def winners(training: Training, k: int, units: int, progress: float) -> int:
    """The k of k-WTA: from all units to `k`, by a constant factor in equal times."""
    if progress >= training.winners_warm_up:
        return k
    part = progress / training.winners_warm_up
    return max(k, round(units ** (1 - part) * k**part))


def boost(training: Training, progress: float) -> float:
    """Strength of boosting: falls to 0 linearly."""
    if progress >= training.boost_until:
        return 0.0
    return training.boost * (1 - progress / training.boost_until)


def drop_fraction(dynamic: DynamicMasks, progress: float) -> float:
    """Part of the weights that a change of the masks drops."""
    if progress >= dynamic.until:
        return 0.0
    return dynamic.fraction * (1 + math.cos(math.pi * progress / dynamic.until)) / 2
