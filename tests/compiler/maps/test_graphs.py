"""Networks with branches are compiled whole, and compute what the file says."""

from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.map_graphs import GRAPHS, write_graph

from trencadis_boards import load_board
from trencadis_compiler.compile import Compiled, compile_model
from trencadis_compiler.errors import CompileError
from trencadis_compiler.maps.compile_maps import CompiledMaps
from trencadis_compiler.options import Options
from trencadis_compiler.verify.check import check_compiled
from trencadis_format.compiled import CompiledNetwork


def compiled(name: str, folder: Path, *, strict: bool = True) -> Compiled:
    options = Options(sized=True, strict=strict)
    return compile_model(write_graph(name, folder), load_board("sim"), options=options)


@pytest.mark.parametrize("name", GRAPHS)
def test_every_node_is_what_the_file_says(name: str, tmp_path: Path) -> None:
    made = compiled(name, tmp_path)
    (part,) = made.parts
    assert isinstance(part, CompiledMaps)
    assert made.compiled.report["overlay_share"] == 1.0
    found = check_compiled(made)
    assert found.tensors > 2
    assert not found.reason
    path = tmp_path / "made.tcd"
    made.save(path)
    assert CompiledNetwork.load(path).kernel == made.compiled.kernel


def test_additions_are_part_of_the_layer_that_is_added(tmp_path: Path) -> None:
    (part,) = compiled("residual", tmp_path).parts
    assert isinstance(part, CompiledMaps)
    assert sum(bool(step.second) for step in part.network.steps) == 2
    assert all(step.layer is not None for step in part.network.steps)


def test_concatenations_are_addresses(tmp_path: Path) -> None:
    (part,) = compiled("concatenated", tmp_path).parts
    assert isinstance(part, CompiledMaps)
    (joined,) = (value for value in part.network.values.values() if value.parts)
    addresses = [part.placement.addresses[name] for name in (*joined.parts, joined.name)]
    assert [address.step for address in addresses] == [3, 3, 3]
    assert [address.rows for address in addresses] == [2, 1, 3]
    assert addresses[1].base == addresses[0].base + 2


def test_a_depthwise_pass_reads_one_row_of_channels(tmp_path: Path) -> None:
    (part,) = compiled("depthwise", tmp_path).parts
    assert isinstance(part, CompiledMaps)
    by_row = [shape for shape in part.placement.shapes if shape is not None and shape.by_row]
    # The layer of 40 channels, and the average of its 40 channels.
    assert [(shape.passes, shape.depth) for shape in by_row] == [(3, 1)]


def test_a_network_that_a_board_does_not_hold_is_refused(tmp_path: Path) -> None:
    made = compiled("residual", tmp_path)
    maps = made.compiled.kernel.core.map
    assert maps is not None
    kernel = made.compiled.kernel
    small = replace(kernel, core=replace(kernel.core, map=replace(maps, map_rows=64)))
    board = replace(load_board("sim"), kernel=small)
    with pytest.raises(CompileError, match="map_rows of a map engine, the board has 64"):
        compile_model(tmp_path / "residual.onnx", board, options=Options(strict=True))


def test_chains_stay_on_list_engines(tmp_path: Path) -> None:
    digits = Path(__file__).parents[3] / "examples" / "digits" / "digits.onnx"
    made = compile_model(digits, load_board("sim"), options=Options(sized=True))
    assert made.compiled.kernel.core.map is None
