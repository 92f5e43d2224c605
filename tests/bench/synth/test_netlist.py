"""Counting and timing of netlists, on small ones written by hand."""

from typing import Any

import pytest

from trencadis_bench.synth.netlist import Netlist

Cell = dict[str, Any]


def cell(kind: str, outputs: str, **connections: Any) -> Cell:
    """A cell; `outputs` names its output ports, separated by spaces."""
    return {
        "type": kind,
        "port_directions": {
            port: "output" if port in outputs.split() else "input" for port in connections
        },
        "connections": {
            port: bits if isinstance(bits, list) else [bits] for port, bits in connections.items()
        },
    }


def flip_flop(d: Any, q: int) -> Cell:
    return cell("FDRE", "Q", C=1, CE="1", D=d, R="0", Q=q)


def module(cells: dict[str, Cell], **ports: list[int]) -> dict[str, Any]:
    return {
        "attributes": {},
        "ports": {name: {"bits": bits} for name, bits in ports.items()},
        "cells": cells,
    }


def netlist(cells: dict[str, Cell], **modules: dict[str, Any]) -> Netlist:
    library = {"CARRY4": {"attributes": {"whitebox": "1"}, "ports": {}, "cells": {}}}
    return Netlist({"modules": {"top": module(cells), **modules, **library}}, "top")


def test_usage_counts_every_instance() -> None:
    inner = module({"l": cell("LUT2", "O", I0=2, I1=3, O=4), "f": flip_flop(4, 5)}, i=[2, 3], o=[5])
    outer = netlist(
        {
            "a": cell("inner", "o", i=[10, 11], o=12),
            "b": cell("inner", "o", i=[12, 11], o=13),
            "m": cell("RAM32M16", "DOA", ADDRA=[12], DIA=[13], DOA=[14]),
            "s": cell("RAMB18E2", "", A=14),
            "w": cell("RAMB36E2", "", A=14),
            "u": cell("URAM288", "", A=14),
            "d": cell("DSP48E2", "P", A=[14], B=[14], P=[15]),
            "c": cell("CARRY4", "O", S=[15], O=[16]),
        },
        inner=inner,
    )
    expected = {"lut": 2 + 8, "ff": 2, "lutram": 8, "bram36": 1.5, "uram": 1, "dsp": 1}
    assert outer.usage() == expected
    assert outer.usage("inner") == {"lut": 1, "ff": 1}
    assert [path for path, _ in outer.blocks(1)] == ["", "a", "b"]


def test_inverters_are_shared_or_part_of_flip_flops() -> None:
    cells = {
        "i": cell("INV", "O", I=2, O=3),
        "same": cell("INV", "O", I=2, O=4),
        "l": cell("LUT2", "O", I0=3, I1=4, O=5),
        "reset": cell("INV", "O", I=6, O=7),
        "f": cell("FDRE", "Q", C=1, CE="1", D="0", R=7, Q=8),
        "enable": cell("INV", "O", I=9, O=10),
        "g": cell("FDRE", "Q", C=1, CE=10, D=10, R="0", Q=11),
    }
    assert netlist(cells).usage() == {"lut": 1 + 1 + 1, "ff": 2}


def test_a_cell_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="'PLL' is not one of UltraScale"):
        netlist({"x": cell("PLL", "")}).usage()


def test_path_counts_luts_and_a_carry_chain_once() -> None:
    found = netlist(
        {
            "start": flip_flop("0", 2),
            "first": cell("LUT1", "O", I0=2, O=3),
            "invert": cell("INV", "O", I=3, O=4),
            "low": cell("CARRY4", "O CO", CI="0", S=[4], DI=["0"], O=[5], CO=[6]),
            "high": cell("CARRY4", "O CO", CI=6, S=["0"], DI=["0"], O=[7], CO=[8]),
            "last": cell("LUT1", "O", I0=7, O=9),
            "end": flip_flop(9, 10),
        }
    ).longest_path()
    assert (found.levels, found.carry_cells) == (3, 2)
    assert found.cells[0] == "LUT1 first"
    assert found.cells[-1] == "LUT1 last"


def test_path_goes_through_blocks_and_stops_at_registers() -> None:
    inner = module({"l": cell("LUT1", "O", I0=2, O=3)}, i=[2], o=[3])
    cells = {
        "a": cell("inner", "o", i=[10], o=[11]),
        "b": cell("inner", "o", i=[11], o=[12]),
        "f": flip_flop(12, 13),
        "c": cell("inner", "o", i=[13], o=[14]),
    }
    path = netlist(cells, inner=inner).longest_path()
    assert path.cells == ("LUT1 a.l", "LUT1 b.l")


def test_memories_of_luts_are_read_but_not_written_through() -> None:
    cells = {
        # An accumulator: what is read goes through a LUT back to be written.
        "m": cell("RAM32M16", "DOA DOB", ADDRA=[2], ADDRB=[7], DIA=[4], DOA=[3], DOB=[5]),
        "add": cell("LUT1", "O", I0=3, O=4),
    }
    assert netlist(cells).longest_path().cells == ("RAM32M16 m", "LUT1 add")


def test_a_loop_is_refused() -> None:
    cells = {"a": cell("LUT1", "O", I0=2, O=3), "b": cell("LUT1", "O", I0=3, O=2)}
    with pytest.raises(ValueError, match="loop through LUT1"):
        netlist(cells).longest_path()


def test_registers_next_to_dsps_are_found() -> None:
    cells = {
        "a": flip_flop(2, 3),
        "b": flip_flop(2, 4),
        "shared": flip_flop(2, 5),
        "other": cell("LUT1", "O", I0=5, O=6),
        "d": cell("DSP48E2", "P", A=[3, 5], B=[4], P=[7, 8]),
        "m": flip_flop(7, 9),
        "p": flip_flop(9, 10),
        # A product that also enters logic is no register of the DSP.
        "q": flip_flop(8, 11),
        "tap": cell("LUT1", "O", I0=8, O=12),
        "constant": flip_flop("1", 13),
    }
    assert netlist(cells).dsp_registers() == 4
