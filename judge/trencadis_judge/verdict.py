"""Findings of the judge."""

from dataclasses import dataclass

__all__ = ["Judgement", "Outcome", "UnitVerdict"]


@dataclass(frozen=True)
class UnitVerdict:
    """One held tensor against the nodes that make it from other held tensors.

    Attributes
    ----------
    tensor, node : str
        The tensor, and the node of the file that makes it.
    host : bool
        Made by the host's runtime, in float32, not by the device.
    elements : int
        Elements compared.
    differing : int
        Elements that are not what the file says.
    undecided : int
        Elements within their own error of a tie that no exact rule could decide; both neighbours
        were taken for right.
    largest : float
        Largest difference, in steps for integers.
    runtime_differing : int or None
        Elements of ours that onnxruntime gives otherwise; None where it was not run.
    runtime_unexplained : int
        Elements of which onnxruntime is farther from the exact number than float32 may be.
    reason : str
        Why onnxruntime, or the evaluator, did not judge; empty if both did.
    """

    tensor: str
    node: str
    host: bool
    elements: int
    differing: int
    undecided: int
    largest: float
    runtime_differing: int | None
    runtime_unexplained: int
    reason: str

    @property
    def ok(self) -> bool:
        """True if the tensor is what the file says."""
        return not self.differing and not self.runtime_unexplained


@dataclass(frozen=True)
class Outcome:
    """A model output from end to end, against onnxruntime on the whole file.

    Attributes
    ----------
    tensor : str
        The output.
    elements, differing : int
        Elements compared, and those that are not equal.
    largest : float
        Largest difference.
    """

    tensor: str
    elements: int
    differing: int
    largest: float


@dataclass(frozen=True)
class Judgement:
    """All verdicts on a model, in the order of its nodes.

    Attributes
    ----------
    units : tuple of UnitVerdict
        One for every held tensor that nodes make.
    outputs : tuple of Outcome
        Outputs from end to end; empty where onnxruntime was not run.
    reason : str
        Why onnxruntime did not run the whole model; empty if it did.
    """

    units: tuple[UnitVerdict, ...]
    outputs: tuple[Outcome, ...]
    reason: str

    @property
    def first_difference(self) -> UnitVerdict | None:
        """The first held tensor that is not what the file says."""
        return next((unit for unit in self.units if not unit.ok), None)

    @property
    def ok(self) -> bool:
        """True if every held tensor is what the file says."""
        return self.first_difference is None
