import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from trencadis_format.errors import ContainerError, InputError
from trencadis_format.onnxruntime_door import Mode, open_session
from trencadis_format.tensors import unpack_outputs
from trencadis_host import DeviceError, NodeArg, Session, Statistics, UnknownDeviceError
from trencadis_host import errors as faults


def reference(model: Any) -> Any:
    return open_session(model, Mode.PLAIN, threads=1)


def images(samples: int, dtype: str = "float32", seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    if dtype == "float32":
        return rng.normal(0, 3, (samples, 2, 8, 8)).astype(np.float32)
    return rng.integers(0, 256, (samples, 2, 8, 8)).astype(np.uint8).view(dtype)


VARIANTS = [
    {},
    {"dtype": "int8"},
    {"dtype": "uint8"},
    {"integer": True},
    {"sums": True},
    {"dtype": "uint8", "integer": True},
]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_outputs_are_those_of_onnxruntime(compiled, options) -> None:
    model, image = compiled(**options)
    x = images(20, options.get("dtype", "float32"))
    (expected,) = reference(model).run(None, {"image": x})
    with Session(image) as session:
        outputs = session.run(None, {"image": x})
    assert isinstance(outputs, list)
    assert len(outputs) == 1
    assert outputs[0].dtype == expected.dtype
    assert np.array_equal(outputs[0], expected)
    assert len(np.unique(expected)) > 10


@pytest.mark.parametrize("samples", [1, 2, 7, 300])
@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_any_number_of_samples(compiled, batch, samples) -> None:
    _, image = compiled(batch=batch)
    open_model, _ = compiled()
    x = images(samples)
    (expected,) = reference(open_model).run(None, {"image": x})
    with Session(image) as session:
        assert np.array_equal(session.run(None, {"image": x})[0], expected)
        assert session.statistics == Statistics(samples=samples)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_inputs_and_outputs_are_described_as_onnxruntime_does(compiled, options) -> None:
    model, image = compiled(**options)
    expected = reference(model)
    with Session(image) as session:
        for found, wanted in (
            (session.get_inputs(), expected.get_inputs()),
            (session.get_outputs(), expected.get_outputs()),
        ):
            assert [(arg.name, list(arg.shape), arg.type) for arg in found] == [
                (arg.name, arg.shape, arg.type) for arg in wanted
            ]


def test_a_fixed_batch_is_open_here(compiled) -> None:
    with Session(compiled(batch=1)[1]) as session:
        assert session.get_inputs() == [NodeArg("image", ("N", 2, 8, 8), "tensor(float)")]
        assert session.get_outputs() == [NodeArg("logits", ("N", 10), "tensor(float)")]


def test_the_program_that_runs_on_onnxruntime(compiled) -> None:
    model, image = compiled()
    x = images(3)
    results = []
    for session in (reference(model), Session(str(image), device="emulator")):
        name, output = session.get_inputs()[0].name, session.get_outputs()[0].name
        (logits,) = session.run([output], {name: x})
        results.append(logits)
    assert np.array_equal(*results)


def test_output_names(compiled) -> None:
    with Session(compiled()[1]) as session:
        x = {"image": images(2)}
        assert len(session.run([], x)) == len(reference(compiled()[0]).run([], x)) == 1
        assert len(session.run(["logits"], x)) == 1
        assert len(session.run(["logits", "logits"], x)) == 2
        with pytest.raises(InputError, match=r"^outputs must be among \['logits'\], not 'scores'$"):
            session.run(["scores"], x)


def test_arrays_of_any_layout(compiled) -> None:
    _, image = compiled()
    x = images(6)
    with Session(image) as session:
        (expected,) = session.run(None, {"image": x})
        for same in (
            np.asfortranarray(x),
            x[::-1][::-1],
            x.tolist() and np.array(x.tolist(), "f4"),
        ):
            assert np.array_equal(session.run(None, {"image": same})[0], expected)
        assert np.array_equal(session.run(None, {"image": x[::2]})[0], expected[::2])


def bad_value(value: float) -> Any:
    x = images(3)
    x[1, 0, 2, 3] = value
    return x


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ({}, r"^inputs must be \['image'\], not \[\]$"),
        (images(1), r"^inputs must be \{'image': array\}, not of type ndarray$"),
        ({"x": images(1)}, r"^inputs must be \['image'\], not \['x'\]$"),
        ({"image": images(1), "y": 1}, r"^inputs must be \['image'\], not \['image', 'y'\]$"),
        (
            {"image": images(2)[0]},
            r"^input 'image' must have shape \['N', 2, 8, 8\], not \[2, 8, 8\]; N is any number",
        ),
        (
            {"image": images(2)[:, :, 1:]},
            r"must have shape \['N', 2, 8, 8\], not \[2, 2, 7, 8\]; N is any number of samples$",
        ),
        (
            {"image": 3.0},
            r"must have shape \['N', 2, 8, 8\], not \[\]; N is any number of samples$",
        ),
        ({"image": images(0)}, r"^input 'image' has no samples; give it at least one$"),
        (
            {"image": images(1).astype(np.float64)},
            r"^input 'image' must be float32, not float64; convert it with \.astype\('float32'\)$",
        ),
        ({"image": images(1, "int8")}, r"must be float32, not int8"),
        ({"image": images(1).astype(object)}, r"must be float32, not object"),
        (
            {"image": bad_value(np.nan)},
            r"^input 'image' must be finite, but is nan at \[1, 0, 2, 3\]; clean the data first$",
        ),
        ({"image": bad_value(-np.inf)}, r"must be finite, but is -inf at \[1, 0, 2, 3\]"),
    ],
    ids=str,
)
def test_wrong_inputs(compiled, feed, message) -> None:
    with Session(compiled()[1]) as session:
        with pytest.raises(InputError, match=message):
            session.run(None, feed)
        # The session is as good as before.
        assert session.run(None, {"image": images(1)})[0].shape == (1, 10)


def test_values_beyond_the_range_are_clipped(compiled) -> None:
    model, image = compiled()
    x = bad_value(3e38)
    with Session(image) as session:
        assert np.array_equal(
            session.run(None, {"image": x})[0], reference(model).run(None, {"image": x})[0]
        )


def test_closing(compiled) -> None:
    session = Session(compiled()[1])
    session.close()
    session.close()
    with pytest.raises(InputError, match=r"^the session is closed; open another one$"):
        session.run(None, {"image": images(1)})


def test_the_context_closes_after_an_error(compiled) -> None:
    with pytest.raises(KeyError), Session(compiled()[1]) as session:
        raise KeyError
    with pytest.raises(InputError, match="the session is closed"):
        session.run(None, {"image": images(1)})


def test_statistics_are_of_the_last_run(compiled) -> None:
    with Session(compiled()[1]) as session:
        assert session.statistics is None
        session.run(None, {"image": images(3)})
        session.run(None, {"image": images(2)})
        assert session.statistics == Statistics(2, None, None, None, None)
        assert session.overlay.name == "small"


@pytest.mark.parametrize("content", [None, b"", b"not an image"], ids=["missing", "empty", "text"])
def test_unusable_images(tmp_path, content) -> None:
    path = tmp_path / "net.tcd"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ContainerError, match=r"net\.tcd: "):
        Session(path)


def test_unknown_devices(compiled) -> None:
    with pytest.raises(
        UnknownDeviceError,
        match=r"^device 'emulater' is not one of .*, emulator, .*; did you mean 'emulator'\?$",
    ):
        Session(compiled()[1], device="emulater")


def test_devices_that_cannot_be_opened(compiled) -> None:
    with pytest.raises(
        DeviceError, match=r"^device emulator takes nothing after a colon, not '3'$"
    ):
        Session(compiled()[1], device="emulator:3")


def test_two_sessions_in_two_threads(compiled) -> None:
    model, image = compiled()
    results: dict[int, Any] = {}

    def infer(number: int) -> None:
        with Session(image) as session:
            results[number] = session.run(None, {"image": images(5, seed=number)})[0]

    threads = [threading.Thread(target=infer, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(2):
        (expected,) = reference(model).run(None, {"image": images(5, seed=number)})
        assert np.array_equal(results[number], expected)


class SlowDevice:
    """A device whose runs last until they are let go."""

    name = "slow"

    def __init__(self, overlay: Any) -> None:
        self.output_bytes = overlay.output_bytes
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.computed: list[int] = []
        self.open = True

    def run(self, samples: Any) -> tuple[Any, Statistics]:
        self.begun.release()
        assert self.go.acquire(timeout=20)
        assert self.open
        self.computed.append(len(samples))
        return np.zeros((len(samples), self.output_bytes), np.uint8), Statistics(len(samples))

    def close(self) -> None:
        self.open = False


class SlowQueue(SlowDevice):
    """One that queues by itself, and computes in its own thread."""

    def __init__(self, overlay: Any) -> None:
        super().__init__(overlay)
        self.thread = ThreadPoolExecutor(1, "device")

    def submit(self, samples: Any) -> Future[Any]:
        return self.thread.submit(super().run, samples)

    def run(self, samples: Any) -> Any:
        return self.submit(samples).result()

    def close(self) -> None:
        self.thread.shutdown()
        super().close()


@pytest.fixture(params=[SlowDevice, SlowQueue])
def slow(request: pytest.FixtureRequest, compiled, monkeypatch) -> Iterator[Any]:
    """A session on a slow device, and the device."""
    made: list[SlowDevice] = []

    def open_device(name: str, overlay: Any, options: Any) -> SlowDevice:
        made.append(request.param(overlay))
        return made[0]

    monkeypatch.setattr("trencadis_host.session.open_device", open_device)
    with Session(compiled()[1]) as session:
        yield session, made[0]


def release(device: SlowDevice, runs: int) -> None:
    for _ in range(runs):
        device.go.release()


def test_closing_waits_for_the_run_of_another_thread(slow) -> None:
    session, device = slow
    with ThreadPoolExecutor(2) as threads:
        running = threads.submit(session.run, None, {"image": images(2)})
        assert device.begun.acquire(timeout=10)
        closing = threads.submit(session.close)
        time.sleep(0.1)
        assert device.open
        release(device, 1)
        assert running.result(10)[0].shape == (2, 10)
        closing.result(10)
    assert not device.open


def test_batches_that_have_not_begun_are_given_up_on_closing(slow) -> None:
    session, device = slow
    if isinstance(device, SlowQueue):
        pytest.skip("what becomes of them is the device's business")
    futures = [session.submit(None, {"image": images(n)}) for n in (1, 2, 3)]
    assert device.begun.acquire(timeout=10)
    with ThreadPoolExecutor(1) as threads:
        closing = threads.submit(session.close)
        while not session._closed:
            time.sleep(0.01)
        release(device, 1)
        closing.result(10)
    assert futures[0].result(10)[0].shape == (1, 10)
    for future in futures[1:]:
        with pytest.raises(faults.DeviceAbortedError, match="closed before"):
            future.result(10)
    assert device.computed == [1]


def test_a_cancelled_batch_is_not_computed(slow) -> None:
    session, device = slow
    futures = [session.submit(None, {"image": images(n)}) for n in (1, 2, 3)]
    assert device.begun.acquire(timeout=10)
    assert futures[1].cancel()
    release(device, 2)
    assert futures[2].result(10)[0].shape == (3, 10)
    assert device.computed == [1, 3]
    assert session.statistics == Statistics(3)


def test_callbacks_may_use_the_session(slow) -> None:
    session, device = slow
    done = threading.Event()
    shapes = []

    def again(future: Any) -> None:
        shapes.append(future.result()[0].shape)
        shapes.append(session.run(None, {"image": images(4)})[0].shape)
        session.close()
        done.set()

    future = session.submit(None, {"image": images(1)})
    future.add_done_callback(again)
    release(device, 2)
    assert done.wait(10)
    assert shapes == [(1, 10), (4, 10)]
    with pytest.raises(InputError, match="the session is closed"):
        session.submit(None, {"image": images(1)})


def test_results_are_unpacked_beside_the_device(slow, monkeypatch) -> None:
    session, device = slow
    names = []

    def unpack(*arguments: Any) -> Any:
        names.append(threading.current_thread().name)
        return unpack_outputs(*arguments)

    monkeypatch.setattr("trencadis_host.session.unpack_outputs", unpack)
    release(device, 1)
    session.submit(None, {"image": images(1)}).result(10)
    assert names
    assert names[0].startswith("results")
