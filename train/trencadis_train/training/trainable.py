"""Protocol of a network that `TrainingRun` trains: the seam between the two."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from trencadis_train.training.metrics import EpochMetrics
from trencadis_train.training.score import Score

__all__ = ["FLOAT", "INTEGERS", "PHASES", "Settings", "State", "Trainable", "Trained"]

FLOAT, INTEGERS = "float", "integers"

PHASES = (FLOAT, INTEGERS)
"""Phases of a training in order: real numbers, then the rounding of the hardware."""

State = Mapping[str, Any]
"""Arrays or tensors by name."""

Result_co = TypeVar("Result_co", covariant=True)


@dataclass(frozen=True)
class Settings:
    """Values that change in the course of a training, as they stand."""

    learning_rate: float
    winners: str = ""
    """k of every k-WTA, from the input on, with spaces between."""
    boost: float = 0.0


@dataclass(frozen=True)
class Trained:
    """Result of a run: the best states with their scores, and all epochs."""

    float_state: State
    float_score: Score
    integers_state: State
    integers_score: Score
    rows: tuple[EpochMetrics, ...]


class Trainable(Protocol[Result_co]):
    """A network with its data, its optimiser and everything else that changes in a training.

    `TrainingRun` loops over phases and epochs, keeps the best network, and writes checkpoints and
    metrics; it knows nothing of how a network is stored or computed. Everything random must depend
    on the recipe's seed, the phase and the epoch alone, so that a training that is resumed gives
    what it would have given.
    """

    def fingerprint(self) -> Mapping[str, Any]:
        """Facts beside the recipe that decide the result: JSON-ready, compared when resuming."""
        ...

    def begin(self) -> None:
        """Make the network and the optimiser of the first phase."""
        ...

    def advance(self, best: State) -> None:
        """Go on to the second phase from the best network of the first."""
        ...

    def restore(self, phase: str, network: State, optimiser: State) -> None:
        """Take the state that `network` and `optimiser` gave in a phase.

        Raises
        ------
        TrainingError, KeyError, TypeError, ValueError, RuntimeError
            If it is of another network.
        """
        ...

    def epochs(self, phase: str) -> int:
        """Epochs of a phase."""
        ...

    def eligible(self, phase: str, epoch: int) -> bool:
        """Tell whether the network after so many epochs of a phase may be the one that is kept."""
        ...

    def step(self, phase: str, epoch: int, on_part: Callable[[float], None]) -> Score:
        """Train for an epoch, numbered from 0 on; topologies or masks change with it.

        Raises
        ------
        DivergedError
            If the loss is not finite.
        """
        ...

    def validate(self) -> Score:
        """Score on the validation part."""
        ...

    def settings(self) -> Settings:
        """Learning rate and the like, at the end of the epoch."""
        ...

    def network(self) -> State:
        """The network's state; a copy if `step` changes it in place."""
        ...

    def optimiser(self) -> State:
        """The optimiser's state."""
        ...

    def export(self, trained: Trained, folder: Path | None) -> Result_co:
        """Make the result of a training, and write its files into a folder."""
        ...
