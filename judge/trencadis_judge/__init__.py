"""The judge from outside: what a model's own file says its tensors are."""

from trencadis_judge.errors import JudgeError, UnsupportedOperatorError
from trencadis_judge.fidelity import Fidelity, compare_tensors
from trencadis_judge.graph import JudgedModel, load_model
from trencadis_judge.judging import judge
from trencadis_judge.lowering import is_qonnx, lower_qonnx
from trencadis_judge.verdict import Judgement, Outcome, UnitVerdict

__all__ = [
    "Fidelity",
    "JudgeError",
    "JudgedModel",
    "Judgement",
    "Outcome",
    "UnitVerdict",
    "UnsupportedOperatorError",
    "compare_tensors",
    "is_qonnx",
    "judge",
    "load_model",
    "lower_qonnx",
]
