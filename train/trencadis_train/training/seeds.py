"""Seeds of epochs: an epoch that is repeated after an interruption is the same epoch."""

import numpy as np

__all__ = ["epoch_seed"]


def epoch_seed(seed: int, phase: int, epoch: int) -> int:
    """A seed of 63 bits for an epoch of a phase."""
    mixed = np.random.SeedSequence([seed, phase, epoch]).generate_state(1, np.uint64)
    return int(mixed[0] >> np.uint64(1))
