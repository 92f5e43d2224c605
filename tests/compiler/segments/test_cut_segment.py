"""Networks in pieces, from their layers to a file and a session."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.fixtures.networks import (
    KERNELS,
    LayerSpec,
    NetworkSpec,
    k_winners,
    network,
    random_network,
)

from trencadis_compiler.cutting.plan_cut import plan_cut
from trencadis_compiler.exact.reference import evaluate
from trencadis_compiler.ir.network import Pool
from trencadis_compiler.segments.cut_segment import compile_cut
from trencadis_format.compiled import CompiledNetwork, CutSegment
from trencadis_format.errors import ContainerError
from trencadis_format.overlay import Overlay
from trencadis_format.tensor_formats import TensorFormat
from trencadis_format.tensors import output_tensor
from trencadis_host import cut_step
from trencadis_host.cut_step import CutStep
from trencadis_host.devices.protocol import DeviceOptions
from trencadis_host.session import Session

REPORT = {"cycles_per_word": 5e4, "cycles_are": "made up"}

SPECS = {
    "sums": network(
        (3, 9, 8),
        LayerSpec(6, (3, 3), padding=(1, 1, 1, 1)),
        LayerSpec(8, (3, 3), pool=Pool((2, 2), (2, 2)), winners=k_winners(3)),
        LayerSpec(4, None, raw=True),
        zero_point=-7,
    ),
    "keys": network(
        (2, 20, 17), LayerSpec(6, (3, 3), padding=(1, 1, 1, 1), zero_point=3), zero_point=9
    ),
}


def compiled(spec: NetworkSpec) -> tuple[CompiledNetwork, CutSegment]:
    source = random_network(spec, 2)
    kernel = KERNELS["groups"]
    engine = replace(kernel.core.engines[0], dense_values=300, weight_rows=40)
    kernel = replace(kernel, core=replace(kernel.core, engines=(engine,)))
    segment = compile_cut(plan_cut(source, kernel), kernel, REPORT)
    tensors = [
        TensorFormat(name=form.name, dtype=form.dtype, shape=form.shape)
        for form in (segment.input, segment.output)
    ]
    whole = CompiledNetwork(source.name, kernel, (tensors[0],), (tensors[1],), (segment,), REPORT)
    return whole, segment


@pytest.mark.parametrize("name", SPECS)
def test_a_session_runs_a_network_in_pieces(name: str, tmp_path: Path) -> None:
    whole, segment = compiled(SPECS[name])
    assert len(segment.stages) + len(segment.overlays) > 2 or len(segment.stages[0].pieces) > 1
    path = tmp_path / "cut.tcd"
    whole.save(path)
    assert CompiledNetwork.load(path) == whole
    keys = np.random.default_rng(1).integers(0, 256, (3, *SPECS[name].shape))
    integers = (keys - segment.input.key_offset).astype(segment.input.dtype)
    with Session(path) as session:
        session.run(None, {segment.input.name: integers[::-1]})
        (found,) = session.run(None, {segment.input.name: integers})
    exact = evaluate(random_network(SPECS[name], 2), keys).transpose(0, 2, 3, 1)
    assert np.array_equal(found, output_tensor(segment.output, exact))
    assert (found != found.flat[0]).any()


@pytest.mark.parametrize("bound", [cut_step.MAX_KEPT_BYTES, 0])
def test_devices_that_are_memory_stay_open_up_to_a_bound(
    bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cut_step, "MAX_KEPT_BYTES", bound)
    _, segment = compiled(SPECS["sums"])
    opened: list[Session] = []

    def open_overlay(overlay: Overlay) -> Session:
        opened.append(Session._of_overlay(overlay, "cpu", DeviceOptions(), 1))
        return opened[-1]

    step = CutStep(segment, open_overlay)
    keys = np.zeros((2, *SPECS["sums"].shape), np.int64)
    integers = (keys - segment.input.key_offset).astype(segment.input.dtype)
    for _ in range(3):
        step.run({segment.input.name: integers})
    images = len(segment.overlays)
    assert len(opened) == (images if bound else 3 * images)
    assert step.device_names == ({opened[0].device_name} if bound else set())
    assert len(step.kernels) == (sum(len(session.kernels) for session in opened) if bound else 0)
    step.close()
    assert all(session._closed for session in opened)


def test_stages_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    whole, segment = compiled(SPECS["sums"])
    path = tmp_path / "cut.tcd"
    for wrong in (segment.stages[1:], segment.stages[:-1], ()):
        replace(whole, segments=(replace(segment, stages=wrong),)).save(path)
        with pytest.raises(ContainerError, match=r"stage|images of a segment"):
            CompiledNetwork.load(path)
