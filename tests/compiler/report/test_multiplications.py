"""Multiplications of a node."""

from typing import Any

import pytest

from trencadis_compiler.importer.graph import Graph, Node
from trencadis_compiler.ir.network import TensorInfo
from trencadis_compiler.report.multiplications import multiplications


def count(op_type: str, *shapes: tuple[int | None, ...], **attributes: Any) -> int:
    """Multiplications of a node; the last shape is the output's."""
    names = [f"t{i}" for i in range(len(shapes))]
    infos = {
        name: TensorInfo(name, shape, "float32") for name, shape in zip(names, shapes, strict=True)
    }
    node = Node(op_type, "node", tuple(names[:-1]), (names[-1],), attributes)
    return multiplications(Graph("g", (), (), (node,), {}, infos), node)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (count("Conv", (1, 8, 6, 6), (4, 2, 3, 3), (1, 4, 6, 6)), 4 * 36 * 2 * 9),
        (count("ConvTranspose", (1, 8, 6, 6), (8, 2, 3, 3), (1, 2, 8, 8)), 8 * 36 * 2 * 9),
        (count("Gemm", (3, 5), (5, 7), (3, 7)), 3 * 5 * 7),
        (count("Gemm", (5, 3), (5, 7), (3, 7), transA=1), 3 * 5 * 7),
        (count("MatMul", (None, 4, 5), (5, 7), (None, 4, 7)), 4 * 5 * 7),
        (count("MatMul", (2, 4, 9, 5), (2, 4, 5, 9), (2, 4, 9, 9)), 8 * 9 * 5 * 9),
        (count("com.microsoft.FusedMatMul", (4, 5), (5, 7), (4, 7)), 4 * 5 * 7),
        (count("LSTM", (10, 1, 6), (1, 32, 6), (1, 32, 8), (10, 1, 1, 8)), 10 * 32 * (6 + 8)),
        (count("GRU", (10, 2, 6), (2, 24, 6), (2, 24, 8), (10, 2, 2, 8)), 10 * 2 * 48 * (6 + 8)),
        (
            count("Attention", (1, 4, 9, 16), (1, 4, 7, 16), (1, 4, 7, 16), (1, 4, 9, 16)),
            2 * 4 * 9 * 7 * 16,
        ),
        (count("Einsum", (2, 3), (3, 5), (2, 5), equation="ij, jk -> ik"), 30),
        (count("Einsum", (6, 2, 3), (6, 3, 5), (6, 2, 5), equation="...ij,...jk->...ik"), 180),
        (count("Einsum", (2, 3), (3, 2), equation="ij->ji"), 0),
        (count("Add", (2, 3), (2, 3), (2, 3)), 0),
    ],
)
def test_products(found: int, wanted: int) -> None:
    assert found == wanted


def test_unknown_sizes_count_as_nothing() -> None:
    node = Node("MatMul", "node", ("a", "b"), ("c",), {})
    assert multiplications(Graph("g", (), (), (node,), {}), node) == 0
