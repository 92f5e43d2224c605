"""Random networks are valid, and other ways of writing them mean the same."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from trencadis_bench.fuzz.networks import FuzzedNetwork, random_network
from trencadis_bench.fuzz.variants import to_integer_operators, to_qonnx
from trencadis_format.onnxruntime_door import exact_mode, open_session
from trencadis_judge import judge, load_model


def network(seed: int) -> FuzzedNetwork:
    return random_network(np.random.default_rng(seed))


def outputs(made: FuzzedNetwork, model: onnx.ModelProto) -> tuple[bool, str]:
    """Agreement of onnxruntime and the evaluator on a model, and its operators."""
    judged = load_model(model)
    operators = sorted({node.proto.op_type for node in judged.nodes})
    info = model.graph.input[0].type.tensor_type.shape.dim[0]
    inputs = {name: array[: info.dim_value or None] for name, array in made.inputs.items()}
    session = open_session(judged.proto.SerializeToString(), exact_mode(operators), threads=1)
    names = [output.name for output in model.graph.output]
    values = dict(zip(names, session.run(names, inputs), strict=True))
    return judge(judged, {**inputs, **values}, host=names).ok, " ".join(operators)


def test_networks_are_valid_and_of_many_kinds() -> None:
    seen = set()
    for seed in range(0, 80, 2):
        made = network(seed)
        agrees, operators = outputs(made, made.model)
        assert agrees, seed
        seen.update(operators.split())
    assert {"Conv", "Gemm", "MatMul", "TopK", "MaxPool", "BatchNormalization", "Round"} < seen
    assert {"Add", "Concat", "Split", "Softmax", "Mul", "Clip"} < seen


def test_networks_have_several_inputs_and_outputs_and_calibration_data() -> None:
    made = [network(seed) for seed in range(0, 80, 2)]
    assert any(len(one.inputs) > 1 for one in made)
    assert any(len(one.model.graph.output) > 1 for one in made)
    assert any(one.calibration for one in made)
    for one in made:
        declared = [info.name for info in one.model.graph.input]
        assert list(one.inputs) == declared
        assert one.calibration is None or list(one.calibration) == declared


@pytest.mark.parametrize(
    ("change", "kind"), [(to_qonnx, "Round"), (to_integer_operators, "QLinearConv")]
)
def test_variants_are_valid(change: Callable[[onnx.ModelProto], None], kind: str) -> None:
    changed = 0
    for seed in range(0, 400, 2):
        made = network(seed)
        opset = made.model.opset_import[0].version
        written = any(node.domain or "QLinear" in node.op_type for node in made.model.graph.node)
        if written or made.calibration or opset < 11 or changed == 4:
            continue
        model = onnx.ModelProto()
        model.CopyFrom(made.model)
        change(model)
        if not any(node.op_type in ("Quant", kind) for node in model.graph.node):
            continue
        agrees, found = outputs(made, model)
        assert agrees, seed
        assert kind in found
        changed += 1
    assert changed == 4
