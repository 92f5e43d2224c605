"""The table `[sparse]`: how the engine `sparse` trains networks that never exist densely."""

from dataclasses import dataclass
from typing import Literal

from trencadis_train.recipe.checks import check, check_range

__all__ = ["SparseTraining"]


@dataclass(frozen=True, kw_only=True)
class SparseTraining:
    """Topology, activation and schedules of the engine `sparse`.

    Layers with neither `nonzeros` nor `ways` have `epsilon (inputs + units)` connections.
    """

    epsilon: float = 20.0
    """Density of Erdős-Rényi layers; those that it fills are dense."""
    activation: Literal["all-relu", "relu", "leaky-relu"] = "all-relu"
    """Activation of hidden layers."""
    slope: float = 0.6
    """`all-relu`: for negative sums, its sign alternating from layer to layer. `leaky-relu`: the
    slope."""
    evolution: Literal["fixed", "set", "rigl"] = "set"
    """`set`: drop the smallest weights, regrow at random. `rigl`: regrow where of sampled places
    the gradient is largest. `fixed`: keep the topology."""
    fraction: float = 0.3
    """Part of the connections that an epoch changes."""
    cosine_fraction: bool = False
    """Let the fraction fall to 0 along a cosine."""
    until: float = 0.75
    """Part of the training after which the topology stays: changing it to the end hurts."""
    schedule: Literal["constant", "cosine", "one-cycle"] = "constant"
    """Schedule of the learning rate; `one-cycle` has `training.warm_up`."""
    loss: Literal["cross-entropy", "mse"] = "cross-entropy"
    """Loss of a softmax, or of the outputs themselves."""
    clip: float = 0.0
    """Largest norm of the gradient; 0: any."""
    standardise: Literal["none", "all", "features"] = "all"
    """Make inputs of mean 0 and variance 1: all together, or each by itself."""
    prune: Literal["none", "during", "after"] = "none"
    """Importance pruning of hidden neurons: `during` training after every `prune_every` epochs, or
    `after` it."""
    prune_from: float = 0.5
    """`during`: part of the training before the first pruning."""
    prune_every: int = 5
    """`during`: epochs between two prunings."""
    prune_percentile: float = 10.0
    """Neurons whose importance is below this percentile of their layer are removed."""
    synchronous: bool = False
    """A step takes a batch of each of several workers, in place of each batch as it comes."""
    local_epochs: int = 0
    """Epochs at the end that each of several workers trains by itself on a part of the data;
    their networks are then averaged."""

    def __post_init__(self) -> None:
        check(0 < self.epsilon < 1e9, "sparse.epsilon", "a positive number", self.epsilon)
        check_range("sparse.slope", self.slope, 0, 1)
        check_range("sparse.fraction", self.fraction, 0, 0.9)
        check_range("sparse.until", self.until, 0, 1)
        check_range("sparse.clip", self.clip, 0)
        check_range("sparse.local_epochs", self.local_epochs, 0)
        check_range("sparse.prune_from", self.prune_from, 0, 1)
        check_range("sparse.prune_every", self.prune_every, 1)
        check_range("sparse.prune_percentile", self.prune_percentile, 0, 90)
