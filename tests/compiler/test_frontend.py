import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from trencadis_compiler.compile import import_model
from trencadis_compiler.errors import CompileError
from trencadis_compiler.frontend import LARGEST_FILE, load_graph
from trencadis_compiler.ir import Network

FUZZ = settings(
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def network(w: Any) -> Path:
    """A file with most of what files have."""
    bias = w.integers(w.rng.integers(-50, 50, 6), 2**-10, dtype=np.int32)
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(6, 2, 3, 3), [2**-6] * 6), bias)
    y = w.node("MaxPool", w.node("Relu", y), kernel_shape=[2, 2], strides=[2, 2])
    y = w.quantised(y, 2**-4, -128)
    values, indices = w.top_k(y, 2, axis=1)
    zeros = w.node("ConstantOfShape", w.node("Shape", y))
    y = w.quantised(w.node("ScatterElements", zeros, indices, values, axis=1), 2**-4, -128)
    y = w.node("Gemm", w.node("Flatten", y), w.integers(w.sparse(5, 54)), transB=1)
    return w.save(w.quantised(y, 2**-2), 5)


def attempt(path: Path) -> None:
    """Import; anything but a network or a CompileError of one line fails the test."""
    try:
        assert isinstance(import_model(path), Network)
    except CompileError as error:
        text = str(error)
        assert text.startswith(str(path))
        assert "\n" not in text


def test_the_graph_of_a_file(writer) -> None:
    graph = load_graph(network(writer()))
    assert [(info.name, info.shape, info.dtype) for info in graph.inputs] == [
        ("x", (None, 2, 8, 8), "float32")
    ]
    assert graph.outputs[0].shape == (None, 5)
    assert str(graph.nodes[1]) == "QuantizeLinear 'QuantizeLinear1'"
    producer = graph.producer(graph.outputs[0].name)
    assert producer is graph.nodes[-1]
    assert graph.users(graph.nodes[-2].outputs[0]) == [producer]


@pytest.mark.parametrize("attribute", ["value_float", "value_floats", "value_int", "value_ints"])
def test_constants_as_attributes(writer, attribute) -> None:
    w = writer()
    value: Any = [2, 3] if attribute.endswith("s") else 2
    path = w.save(w.node("Identity", w.node("Constant", **{attribute: value})), 1)
    constant = load_graph(path).constants["v0.0"]
    assert constant.dtype == (np.float32 if "float" in attribute else np.int64)
    assert constant.tolist() == value


def test_constants_of_strings_are_refused(writer) -> None:
    w = writer()
    path = w.save(w.node("Identity", w.node("Constant", value_string="x")), 1)
    with pytest.raises(CompileError, match="Constant 'Constant0' is not a number"):
        load_graph(path)


# --- files ---------------------------------------------------------------------------------------


def test_missing_file(tmp_path) -> None:
    with pytest.raises(CompileError, match=r"none\.onnx: cannot be read: No such file"):
        load_graph(tmp_path / "none.onnx")


def test_folder(tmp_path) -> None:
    with pytest.raises(CompileError, match="cannot be read: not a regular file"):
        load_graph(tmp_path)


def test_pipe(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CompileError, match="cannot be read: not a regular file"):
        load_graph(tmp_path / "pipe")


def test_endless_device() -> None:
    with pytest.raises(CompileError, match="cannot be read: not a regular file"):
        load_graph(Path("/dev/zero"))


def test_oversized_file(tmp_path) -> None:
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    with pytest.raises(CompileError, match=f"{LARGEST_FILE + 1} bytes, more than the"):
        load_graph(path)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x89PNG\r\n\x1a\n" + bytes(100), b"PK\x03\x04", b"hello, this is a text\n", bytes(999)],
    ids=["empty", "picture", "zip", "text", "zeros"],
)
def test_foreign_files(tmp_path, data) -> None:
    path = tmp_path / "foreign.onnx"
    path.write_bytes(data)
    with pytest.raises(CompileError, match="not an ONNX model"):
        load_graph(path)


@pytest.mark.parametrize("location", ["data.bin", "/etc/passwd", "../data.bin", "/dev/zero"])
@pytest.mark.parametrize("where", ["initializer", "attribute"])
def test_external_data_is_not_read(writer, tmp_path, location, where) -> None:
    (tmp_path / "data.bin").write_bytes(bytes(4 * 2 * 9 * 4))
    w = writer()
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 2, 3, 3)))
    if where == "attribute":
        y = w.node("ConstantOfShape", y, value=helper.make_tensor("", 1, [1], [1.0]))
    path = w.save(y, 4, 6, 6)
    model = onnx.load(str(path))
    tensor = next(t for t in model.graph.initializer if t.dims == [4, 2, 3, 3])
    if where == "attribute":
        tensor = model.graph.node[-1].attribute[0].t
        tensor.ClearField("float_data")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(
        CompileError, match=r"is in another file \('.*'\), which is not read; save the model as one"
    ):
        load_graph(path)


@pytest.fixture
def little_memory():
    """A limit on memory that no refusal may come near."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def edited(path: Path, edit: Any) -> Path:
    model = onnx.load(str(path))
    edit(model.graph)
    path.write_bytes(model.SerializeToString())
    return path


def huge_tensor(graph: Any) -> None:
    tensor = next(t for t in graph.initializer if list(t.dims) == [6, 2, 3, 3])
    tensor.dims[:] = [1 << 31, 1 << 31, 3, 3]


def huge_zeros(graph: Any) -> None:
    huge_tensor(graph)
    next(t for t in graph.initializer if list(t.dims[:1]) == [1 << 31]).ClearField("raw_data")


def large_zeros(graph: Any) -> None:
    tensor = next(t for t in graph.initializer if list(t.dims) == [6, 2, 3, 3])
    tensor.dims[:] = [1 << 22, 2, 3, 2]
    tensor.ClearField("raw_data")


def negative_tensor(graph: Any) -> None:
    tensor = next(t for t in graph.initializer if list(t.dims) == [6, 2, 3, 3])
    tensor.dims[:] = [-6, -2, 3, 3]


def huge_input(graph: Any) -> None:
    for dimension in graph.input[0].type.tensor_type.shape.dim[2:]:
        dimension.dim_value = 1 << 40


def huge_batch(graph: Any) -> None:
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1 << 60


def huge_padding(graph: Any) -> None:
    conv = next(node for node in graph.node if node.op_type == "Conv")
    conv.attribute.append(helper.make_attribute("pads", [1 << 30] * 4))


def huge_group(graph: Any) -> None:
    conv = next(node for node in graph.node if node.op_type == "Conv")
    conv.attribute.append(helper.make_attribute("group", 1 << 40))
    graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2 << 40


def huge_reshape(graph: Any) -> None:
    flatten = next(node for node in graph.node if node.op_type == "Flatten")
    flatten.op_type = "Reshape"
    del flatten.attribute[:]
    graph.initializer.append(helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 1 << 62]))
    flatten.input.append("shape")


def huge_output(graph: Any) -> None:
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1 << 50


@pytest.mark.parametrize(
    "edit",
    [
        huge_tensor,
        huge_zeros,
        large_zeros,
        negative_tensor,
        huge_input,
        huge_padding,
        huge_group,
        huge_reshape,
        huge_output,
    ],
)
def test_huge_shapes_are_refused_without_allocating(writer, little_memory, edit) -> None:
    path = edited(network(writer()), edit)
    with pytest.raises(CompileError):
        import_model(path)


def test_a_huge_fixed_batch_is_only_a_number(writer, little_memory) -> None:
    network_ = import_model(edited(network(writer()), huge_batch))
    assert network_.input.shape == (1 << 60, 2, 8, 8)


# --- graphs --------------------------------------------------------------------------------------


def reversed_nodes(graph: Any) -> None:
    nodes = list(graph.node)[::-1]
    del graph.node[:]
    graph.node.extend(nodes)


def cycle(graph: Any) -> None:
    graph.node[0].input[0] = graph.node[1].output[0]


def made_twice(graph: Any) -> None:
    graph.node[1].output[0] = graph.node[0].output[0]


def makes_its_input(graph: Any) -> None:
    graph.node[-1].output[0] = "x"
    graph.output[0].name = "x"


def no_nodes(graph: Any) -> None:
    del graph.node[:]


def no_outputs(graph: Any) -> None:
    del graph.output[:]


def two_inputs(graph: Any) -> None:
    graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ["N", 2]))


def no_shape(graph: Any) -> None:
    graph.input[0].type.tensor_type.ClearField("shape")


def open_shape(graph: Any) -> None:
    graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"


def other_type(graph: Any) -> None:
    graph.input[0].type.tensor_type.elem_type = TensorProto.INT32


def sequence(graph: Any) -> None:
    graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(graph.input[0].type))


def control_flow(graph: Any) -> None:
    graph.node[2].attribute.append(helper.make_attribute("then_branch", onnx.GraphProto()))


def integer_output(graph: Any) -> None:
    graph.output[0].type.tensor_type.elem_type = TensorProto.INT8


def no_data(graph: Any) -> None:
    graph.initializer[0].ClearField("raw_data")


def missing_inputs(graph: Any) -> None:
    del next(node for node in graph.node if node.op_type == "Conv").input[1:]


def wrong_attribute(graph: Any) -> None:
    pool = next(node for node in graph.node if node.op_type == "MaxPool")
    pool.attribute[0].CopyFrom(helper.make_attribute("kernel_shape", "wide"))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (reversed_nodes, "which is not made before; export it again"),
        (cycle, "which is not made before; export it again"),
        (made_twice, "not an ONNX model"),
        (makes_its_input, "makes 'x', which is made before; export it again|not an ONNX model"),
        (no_nodes, "it has no nodes or no outputs"),
        (no_outputs, "it has no nodes or no outputs"),
        (two_inputs, "the model has 2 inputs and 1 outputs; the overlay runs models with one of"),
        (no_shape, "'x' has no declared shape or type; run onnx.shape_inference on it"),
        (open_shape, r"input 'x' has shape \[None, 2, None, 8\]; it needs a batch axis and one"),
        (
            other_type,
            "input 'x' is int32; the overlay takes float16, float32, float64, int8, uint8",
        ),
        (sequence, r"'x' has type Sequence\(.*, not a tensor"),
        (control_flow, "has control flow, which the overlay cannot run"),
        (integer_output, "is declared int8, which it is not"),
        (huge_output, r"is declared with shape \[None, 1125899906842624\], but has \['N', 5\]"),
        (no_data, "'c0' has no data; export the model again"),
        (missing_inputs, "the ONNX graph is inconsistent|is not defined"),
        (wrong_attribute, "the ONNX graph is inconsistent"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_inconsistent_graphs(writer, edit, message) -> None:
    path = edited(network(writer()), edit)
    with pytest.raises(CompileError, match=message) as error:
        import_model(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


# --- fuzz ----------------------------------------------------------------------------------------


@FUZZ
@given(data=st.data())
def test_damaged_files(writer, data) -> None:
    path = network(writer())
    original = path.read_bytes()
    damaged = bytearray(original)
    edits = st.lists(
        st.tuples(st.integers(0, len(original) - 1), st.integers(0, 255)), min_size=1, max_size=8
    )
    for place, value in data.draw(edits):
        damaged[place] = value
    path.write_bytes(damaged)
    attempt(path)


@FUZZ
@given(data=st.data())
def test_truncated_files(writer, data) -> None:
    path = network(writer())
    original = path.read_bytes()
    path.write_bytes(original[: data.draw(st.integers(0, len(original) - 1))])
    attempt(path)


@FUZZ
@given(data=st.binary(max_size=400))
def test_random_files(tmp_path, data) -> None:
    path = tmp_path / "random.onnx"
    path.write_bytes(data)
    with pytest.raises(CompileError):
        import_model(path)


numbers = st.one_of(
    st.integers(-3, 9), st.sampled_from([-(1 << 63), -(1 << 31), 1 << 31, 1 << 40, (1 << 63) - 1])
)
reals = st.one_of(st.floats(width=32), st.sampled_from([0.0, -1.0, float("nan"), float("inf")]))
OPERATORS = ["Conv", "Gemm", "MatMul", "MaxPool", "Relu", "Clip", "TopK", "Flatten", "Reshape"]
OPERATORS += ["QuantizeLinear", "DequantizeLinear", "Add", "Mul", "Slice", "Gather", "Concat"]
OPERATORS += ["Transpose", "Squeeze", "Unsqueeze", "BatchNormalization", "Cast", "Shape", "Quant"]


def mutate(graph: Any, draw: Any) -> None:
    """One change of a kind that an exporter's fault or a malicious hand might make."""
    node = graph.node[draw(st.integers(0, len(graph.node) - 1))]
    tensor = graph.initializer[draw(st.integers(0, len(graph.initializer) - 1))]
    kind = draw(st.integers(0, 7))
    if kind == 0:
        node.op_type = draw(st.sampled_from(OPERATORS))
    elif kind == 1 and node.attribute:
        old = node.attribute[draw(st.integers(0, len(node.attribute) - 1))]
        value = draw(st.one_of(numbers, st.lists(numbers, min_size=1), reals, st.just("text")))
        old.CopyFrom(helper.make_attribute(old.name, value))
    elif kind == 2 and node.input:
        node.input[draw(st.integers(0, len(node.input) - 1))] = draw(
            st.sampled_from([t.name for t in graph.initializer] + ["", "x"])
        )
    elif kind == 3 and node.input:
        del node.input[draw(st.integers(0, len(node.input) - 1))]
    elif kind == 4:
        tensor.dims[:] = draw(st.lists(numbers, max_size=5))
    elif kind == 5:
        tensor.data_type = draw(st.integers(0, 24))
    elif kind == 6:
        shape = graph.input[0].type.tensor_type.shape
        shape.dim[draw(st.integers(0, 3))].dim_value = draw(numbers)
    else:
        number = np.float32(draw(reals))
        if len(tensor.raw_data) == 4:
            tensor.raw_data = number.tobytes()


@settings(FUZZ, max_examples=300)
@given(data=st.data())
def test_mutated_graphs(writer, data) -> None:
    path = network(writer())
    model = onnx.load(str(path))
    for _ in range(data.draw(st.integers(1, 3))):
        mutate(model.graph, data.draw)
    path.write_bytes(model.SerializeToString())
    attempt(path)
