"""Layers of the benchmark: the same on the engine and as ONNX."""

import numpy as np

from trencadis_bench.cpu.layers import LayerShape, Runner, layer_model, random_weights
from trencadis_format.onnxruntime_door import Mode, open_session
from trencadis_host.devices.cpu.paths import choose_path


def test_both_compute_the_same() -> None:
    shape = LayerShape("small", 9, 7, 20, 3, 2)
    weights = random_weights(shape, 0.4, np.random.default_rng(2))
    ours = Runner(shape, weights, choose_path(), 5)
    ours()
    theirs = open_session(layer_model(shape, weights).SerializeToString(), Mode.PLAIN, threads=1)
    inputs = ours.samples.reshape(5, 9, 9, 7).transpose(0, 3, 1, 2)
    outputs = theirs.run(None, {"x": np.ascontiguousarray(inputs)})[0].transpose(0, 2, 3, 1)
    assert np.array_equal(outputs.reshape(5, -1), ours.results)
    assert len(np.unique(outputs)) > 100
