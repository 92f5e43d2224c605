"""`make test-models`: every operator test of the package onnx is compiled and run, or refused."""

import json
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

from trencadis_boards import Board, load_board
from trencadis_compiler.compile import compile_model
from trencadis_format.command_line import reported
from trencadis_format.errors import FailureError, UserError
from trencadis_format.files import write_atomically
from trencadis_format.onnxruntime_door import exact_mode, open_session
from trencadis_host.session import Session

__all__ = ["NodeTrial", "main"]

RANDOM = ("Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomUniform")
"""Beginnings of operators whose outputs nobody can compare."""


@dataclass(frozen=True)
class NodeTrial:
    """Outcome of a test.

    Attributes
    ----------
    test : str
        Its name.
    outcome : str
        "overlay" or "host", wherever it ran, alike with onnxruntime on the test's own file;
        "refused", with a reason; "not compared", where onnxruntime cannot run the file itself or
        the outputs are random; or "wrong".
    reason : str
        Why it was refused, or what is wrong.
    """

    test: str
    outcome: str
    reason: str = ""


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("build/bench/node_tests.json"),
    show_default=True,
)
@click.option("--only", default="", help="Tests whose name has this in it.")
@reported("test-models")
def main(output: Path, only: str) -> None:
    """Compile and run every operator test; exit status 1 if one is wrong."""
    board = load_board("sim")
    with tempfile.TemporaryDirectory(prefix="trencadis-") as folder:
        trials = [_attempt(case, board, Path(folder)) for case in _cases(only)]
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, (json.dumps([asdict(t) for t in trials], indent=2) + "\n").encode())
    counts = Counter(trial.outcome for trial in trials)
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())))
    wrong = [trial for trial in trials if trial.outcome == "wrong"]
    for trial in wrong:
        print(f"{trial.test}: {trial.reason}")
    if wrong:
        raise SystemExit(1)


def _cases(only: str) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, about the numbers that the tests are made of
        yield from (case for case in collect_testcases(None) if only in case.name)


def _attempt(case: Any, board: Board, folder: Path) -> NodeTrial:
    path = folder / "test.onnx"
    image = folder / "test.tcd"
    onnx.save(case.model, str(path))
    try:
        compiled = compile_model(path, board)
        compiled.save(image)
    except UserError as error:
        return NodeTrial(case.name, "refused", str(error).removeprefix(f"{path}: "))
    except Exception as error:
        return NodeTrial(case.name, "wrong", f"{type(error).__name__}: {error}")
    places = {segment["place"] for segment in compiled.compiled.report.get("segments", [])}
    outcome = "overlay" if "overlay" in places else "host"
    kinds = [node.op_type for node in case.model.graph.node]
    if any(kind.startswith(RANDOM) for kind in kinds):
        return NodeTrial(case.name, "not compared", "random outputs")
    try:
        feed = _feed(case)
        session = open_session(str(path), exact_mode(kinds))
        taken = {value.name for value in session.get_inputs()}
        feed = {name: array for name, array in feed.items() if name in taken}
        expected = session.run(None, feed)
    except Exception as error:  # onnxruntime's errors have no common base
        reason = " ".join(str(error).split())[:160]
        return NodeTrial(case.name, "not compared", f"onnxruntime cannot run it: {reason}")
    try:
        with Session(image) as own:
            names = {value.name for value in own.get_inputs()}
            got = own.run(None, {name: a for name, a in feed.items() if name in names})
    except UserError as error:
        return NodeTrial(case.name, "refused", f"when it is run: {error}")
    except FailureError as error:
        return NodeTrial(case.name, "wrong", str(error))
    except Exception as error:
        return NodeTrial(case.name, "wrong", f"{type(error).__name__}: {error}")
    same = len(got) == len(expected) and all(map(_equal, got, expected))
    return NodeTrial(case.name, outcome if same else "wrong", "" if same else "other numbers")


def _feed(case: Any) -> Mapping[str, Any]:
    """The test's first inputs, by name."""
    values, _ = case.data_sets[0]
    feed = {}
    for info, value in zip(case.model.graph.input, values, strict=False):
        if isinstance(value, onnx.TensorProto):
            value = numpy_helper.to_array(value)
        is_tensor = info.type.WhichOneof("value") == "tensor_type"
        feed[info.name] = np.asarray(value) if is_tensor else value
    return feed


def _equal(got: Any, expected: Any) -> bool:
    first, second = np.asarray(got), np.asarray(expected)
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return bool(np.array_equal(first, second, equal_nan=first.dtype.kind == "f"))


if __name__ == "__main__":
    main()
