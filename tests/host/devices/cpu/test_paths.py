"""Paths that a processor runs, and their machine code."""

import llvmlite.binding as llvm
import numpy as np
import pytest

from trencadis_bench.cpu.layers import LayerShape, random_weights, shape_assembly
from trencadis_host.devices.cpu.paths import PATHS, choose_path, host_features, runnable_paths
from trencadis_host.errors import DeviceNameError


def features(name: str) -> tuple[str, ...]:
    return next(path.features for path in PATHS if path.name == name)


@pytest.mark.parametrize("name", ["amx", "avx512", "avx512vnni", "avxvnni", "avx2", "sse42"])
def test_a_processor_takes_its_fastest_path(name: str) -> None:
    assert choose_path("", features(name)).name == name


def test_vnni_without_vbmi() -> None:
    known = set(features("avx512")) - {"avx512vbmi"}
    assert choose_path("", known).name == "avx512vnni"


@pytest.mark.parametrize("allowed", [True, False])
def test_tiles_that_the_kernel_denies(allowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor has AMX; Linux may keep it from a process."""
    said = dict.fromkeys(features("amx"), True)
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: said)
    monkeypatch.setattr("trencadis_host.devices.cpu.paths.tiles_are_allowed", lambda: allowed)
    assert choose_path().name == ("amx" if allowed else "avx512")
    if not allowed:
        with pytest.raises(DeviceNameError, match="cpu:amx: this processor does not run it"):
            choose_path("amx")


def test_a_processor_without_any_path() -> None:
    with pytest.raises(DeviceNameError, match=r"none of the paths .*; take --device emulator"):
        choose_path("", ("sse2",))


def test_paths_of_this_processor_need_no_more_than_it_has() -> None:
    for path in runnable_paths():
        assert set(path.features) <= host_features()


def test_tiles_are_lowered_to_their_instructions() -> None:
    (path,) = (path for path in PATHS if path.name == "amx")
    shape = LayerShape("small", 10, 64, 32, 3)
    text = shape_assembly(shape, random_weights(shape, 1.0, np.random.default_rng(0)), path)
    for instruction in ("ldtilecfg", "tileloadd", "tdpbusd", "tilestored", "tilerelease"):
        assert instruction in text


@pytest.mark.parametrize(
    ("name", "instructions"),
    [("avxvnni", ["vpdpbusd", "vpshufb"]), ("neon", ["usdot", "tbl"]), ("avx2", ["vpmaddubsw"])],
)
def test_lowered_to_its_instructions(name: str, instructions: list[str]) -> None:
    (path,) = (path for path in PATHS if path.name == name)
    shape = LayerShape("small", 6, 16, 16, 3)
    text = shape_assembly(shape, random_weights(shape, 0.3, np.random.default_rng(0)), path)
    for instruction in instructions:
        assert instruction in text
    assert "zmm" not in text
