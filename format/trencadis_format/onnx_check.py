"""Checks of host segments: ONNX graphs of known domains that refer to nothing outside.

The graph is read from its protobuf bytes alone, so that running it needs no package but
onnxruntime.
"""

from trencadis_format.protobuf import fields, text_field

__all__ = ["DOMAINS", "MAX_GRAPH_BYTES", "check_host_graph", "operators_of"]

DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.ms.internal.nhwc")
"""Domains of operators that onnxruntime itself brings."""

MAX_GRAPH_BYTES = (1 << 31) - 1
"""Bytes, by protobuf."""

MAX_DEPTH = 16
"""Depth of graphs within graphs."""


def check_host_graph(model: bytes, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Check the ONNX model of a host segment.

    Raises
    ------
    ValueError
        If it is damaged, has operators of other domains, functions or loops, or data elsewhere.
    """
    if len(model) > MAX_GRAPH_BYTES:
        raise ValueError(f"a host segment has {len(model)} bytes, more than {MAX_GRAPH_BYTES}")
    graphs = []
    for number, _, data in fields(model):
        if number == 7:
            graphs.append(data)
        elif number in (20, 25):
            raise ValueError("a host segment brings functions or training of its own")
        elif number == 8:
            _check_domain(text_field(data, 1))
    if len(graphs) != 1:
        raise ValueError(f"a host segment has {len(graphs)} graphs instead of one")
    _check_graph(graphs[0], 0)
    initialisers = {text_field(data, 8) for n, _, data in fields(graphs[0]) if n == 5}
    found = [text_field(data, 1) for n, _, data in fields(graphs[0]) if n == 11]
    if sorted(name for name in found if name not in initialisers) != sorted(inputs):
        raise ValueError("the inputs of a host segment are not those of its graph")
    if sorted(text_field(data, 1) for n, _, data in fields(graphs[0]) if n == 12) != sorted(
        outputs
    ):
        raise ValueError("the outputs of a host segment are not those of its graph")


def _check_graph(graph: bytes, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"graphs in a host segment are nested more than {MAX_DEPTH} deep")
    for number, _, data in fields(graph):
        if number == 1:
            _check_node(data, depth)
        elif number == 5:
            _check_tensor(data)
        elif number == 15:
            for part, _, tensor in fields(data):
                if part in (1, 2):
                    _check_tensor(tensor)


def _check_node(node: bytes, depth: int) -> None:
    _check_domain(text_field(node, 7))
    for number, _, attribute in fields(node):
        if number != 5:
            continue
        for part, kind, data in fields(attribute):
            if kind != 2:
                continue
            if part in (5, 10):
                _check_tensor(data)
            elif part in (6, 11):
                _check_graph(data, depth + 1)
            elif part in (22, 23):
                for inner, _, tensor in fields(data):
                    if inner in (1, 2):
                        _check_tensor(tensor)


def _check_tensor(tensor: bytes) -> None:
    for number, kind, data in fields(tensor):
        if number == 13 or (number == 14 and kind == 0 and data != b"\0"):
            raise ValueError("a host segment has data in other files")


def _check_domain(domain: str) -> None:
    if domain not in DOMAINS:
        raise ValueError(f"a host segment has operators of domain {domain!r}")


def operators_of(model: bytes) -> list[str]:
    """Kinds of a model's operators, with their domain before a dot where they have one."""
    found: list[str] = []
    for number, _, data in fields(model):
        if number == 7:
            _collect(data, found)
    return found


def _collect(graph: bytes, found: list[str]) -> None:
    for number, _, node in fields(graph):
        if number != 1:
            continue
        domain = text_field(node, 7)
        found.append(f"{domain}.{text_field(node, 4)}" if domain else text_field(node, 4))
        for part, _, attribute in fields(node):
            if part == 5:
                for inner, kind, data in fields(attribute):
                    if inner in (6, 11) and kind == 2:
                        _collect(data, found)
