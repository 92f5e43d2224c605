"""Clients that others wrote, against the server."""

import functools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.grpc
import tritonclient.http

from trencadis_format.errors import UserError
from trencadis_host import Session
from trencadis_serve.limits import Limits
from trencadis_serve.model import ModelSpec

Array = npt.NDArray[Any]

get = functools.partial(httpx.get, timeout=300)
post = functools.partial(httpx.post, timeout=300)


def samples(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0, 3, (count, 2, 8, 8)).astype(np.float32)


def expected(spec: ModelSpec, x: Array) -> Array:
    with Session(spec.path, "emulator") as session:
        return session.run(None, {"image": x})[0]


def infer(client: Any, kind: Any, x: Array, **options: Any) -> Array:
    tensor = kind.InferInput("image", list(x.shape), "FP32")
    tensor.set_data_from_numpy(x, **options)
    return client.infer("small", [tensor], request_id="7").as_numpy("logits")


@pytest.mark.parametrize("binary", [True, False])
def test_http_clients_get_the_sessions_outputs(serving, spec, binary) -> None:
    x = samples(5)
    with serving([spec]) as running:
        client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{running.port}")
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("small")
        assert client.is_model_ready("small", "1")
        y = infer(client, tritonclient.http, x, binary_data=binary)
        client.close()
    assert np.array_equal(y, expected(spec, x))
    assert len(np.unique(y)) > 5


def test_grpc_clients_get_the_sessions_outputs(serving, spec) -> None:
    x = samples(300)
    with (
        serving([spec]) as running,
        tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{running.grpc_port}") as client,
    ):
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("small")
        y = infer(client, tritonclient.grpc, x)
        meta: Any = client.get_model_metadata("small", as_json=True)
        reply: Any = client.get_model_config("small", as_json=True)
    assert np.array_equal(y, expected(spec, x))
    assert meta["inputs"] == [{"name": "image", "datatype": "FP32", "shape": ["-1", "2", "8", "8"]}]
    assert len(reply["config"]["parameters"]["sha256"]["string_value"]) == 64


def test_metadata_say_what_the_network_is(serving, spec) -> None:
    with serving([spec]) as running:
        reply = get(f"http://127.0.0.1:{running.port}/v2/models/small").json()
        server = get(f"http://127.0.0.1:{running.port}/v2").json()
    assert reply["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}]
    assert reply["versions"] == ["1"]
    assert float(reply["parameters"]["predicted_cycles_per_inference"]) > 0
    assert server["name"] == "trencadis"


def test_json_without_a_content_type_is_json(serving, spec) -> None:
    x = samples(1)
    body = {
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 2, 8, 8], "data": x.tolist()}]
    }
    with serving([spec]) as running:
        url = f"http://127.0.0.1:{running.port}/v2/models/small/infer"
        content = json.dumps(body).encode()
        reply = post(url, content=content)
    assert reply.status_code == 200
    data = np.array(reply.json()["outputs"][0]["data"], np.float32)
    assert np.array_equal(data, expected(spec, x)[0])


def test_large_requests_pass_the_default_limits(
    serving, compiled: Callable[..., tuple[Path, Path]]
) -> None:
    spec = ModelSpec("small", "1", compiled()[1], ("emulator",))
    x = samples(2000)  # 1 MB, more than 300 x 784 floats
    with serving([spec]) as running:
        client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{running.port}")
        y = infer(client, tritonclient.http, x)
        z = infer(client, tritonclient.http, x[:300], binary_data=False)
        client.close()
    assert np.array_equal(y, expected(spec, x))
    assert np.array_equal(z, y[:300])


def test_models_and_versions_come_and_go(serving, spec, compiled) -> None:
    other = ModelSpec("small", "10", compiled(integer=True)[1], ("emulator",))
    second = ModelSpec("second", "1", compiled(sums=True)[1], ("emulator",))
    with serving([spec, other, second]) as running:
        client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{running.port}")
        rows = {
            (row["name"], row["version"]): row["state"]
            for row in client.get_model_repository_index()
        }
        assert rows == {("small", "1"): "READY", ("small", "10"): "READY", ("second", "1"): "READY"}
        newest = client.get_model_metadata("small")
        assert newest["outputs"][0]["datatype"] == "INT8"
        assert client.get_model_metadata("small", "1")["outputs"][0]["datatype"] == "FP32"
        client.unload_model("second")
        assert not client.is_model_ready("second")
        assert client.is_model_ready("small")
        client.load_model("second")
        assert client.is_model_ready("second")
        with pytest.raises(tritonclient.http.InferenceServerException, match="no parameters"):
            client.load_model("second", config="{}")
        client.close()


BAD = [
    (b"", "is not JSON"),
    (b"[1]", "must be a JSON object"),
    (b'{"inputs": NaN}', "is not JSON"),
    (b'{"inputs": []}', "list of objects with a name"),
    (b'{"inputs": [{"name": "x"}]}', "datatype None"),
    (
        b'{"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 2, 8, 8], "data": [1]}]}',
        "takes 128 values, not 1",
    ),
    (
        b'{"inputs": [{"name": "image", "datatype": "FP32", "shape": [1], "data": ["a"]}]}',
        "not a list of FP32",
    ),
    (
        b'{"inputs": [{"name": "image", "datatype": "FP32", "shape": [-1], "data": []}]}',
        "1 to 32 sizes",
    ),
    (
        b'{"inputs": [{"name": "image", "datatype": "FP32", "shape": [1], "data": [1e39]}]}',
        "shape must be",
    ),
    (
        b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["a"]}]}',
        "is not one of",
    ),
    (
        b'{"inputs": [{"name": "other", "datatype": "FP32", "shape": [1], "data": [1]}]}',
        "inputs must be",
    ),
    (
        b'{"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1], "data": [300]}]}',
        "outside the range",
    ),
    (
        b'{"id": 3, "inputs": [{"name": "image", "datatype": "FP32", "shape": [1], "data": [1]}]}',
        "id must be",
    ),
    (
        b'{"inputs": [{"name": "image", "datatype": "FP32", "shape": [0, 2, 8, 8], "data": []}]}',
        "batch is empty",
    ),
    (b"[" * 100_000, "is not JSON"),
    (
        b'{"inputs": [{"name": "image", "datatype": "FP32", "shape": [1], "data": ["%b"%b]}]}'
        % (b"a" * 1_000_000, b',"b"' * 200_000),
        "not a list of FP32",
    ),
    (
        b'{"inputs": [{"name": "image", "datatype": "FP32", "shape": [2], "data": [[1], [2, 3]]}]}',
        "not a list of FP32",
    ),
    (
        b'{"inputs": [%b]}' % b",".join([b'{"name": "image"}'] * 1025),
        "inputs: a request may have 1024, not 1025",
    ),
    (
        (
            b'{"inputs": [{"name": "image", "datatype": "FP32", "shape": [1], "data": [1]}],'
            b'"outputs": [{"name": "logits"}, {"name": "logits"}]}'
        ),
        "an output is asked for twice",
    ),
]


@pytest.mark.parametrize(("body", "message"), BAD)
def test_bad_requests_are_refused_in_one_line(serving, spec, body, message) -> None:
    with serving([spec]) as running:
        reply = post(f"http://127.0.0.1:{running.port}/v2/models/small/infer", content=body)
        alive = get(f"http://127.0.0.1:{running.port}/v2/health/ready")
    assert reply.status_code == 400
    assert message in reply.json()["error"]
    assert "\n" not in reply.json()["error"]
    assert alive.status_code == 200


@pytest.mark.parametrize("length", ["-1", "99999999", "1e3", "", "9" * 5000, "٣"])
def test_bad_lengths_of_json_are_refused(serving, spec, length) -> None:
    headers = {"Inference-Header-Content-Length": length.encode()}
    with serving([spec]) as running:
        url = f"http://127.0.0.1:{running.port}/v2/models/small/infer"
        reply = post(url, content=b'{"inputs": []}', headers=headers)
    assert reply.status_code == 400


def test_values_that_are_no_numbers_are_refused(serving, spec) -> None:
    x = samples(2)
    x[1, 0, 0, 0] = np.nan
    with serving([spec]) as running:
        client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{running.port}")
        with pytest.raises(tritonclient.http.InferenceServerException, match="not a finite number"):
            infer(client, tritonclient.http, x)
        client.close()
        with (
            tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{running.grpc_port}") as rpc,
            pytest.raises(tritonclient.grpc.InferenceServerException, match="INVALID_ARGUMENT"),
        ):
            infer(rpc, tritonclient.grpc, x)


def test_requests_over_the_limits_have_errors_of_their_own(serving, spec) -> None:
    limits = Limits(request_bytes=4096, request_samples=3)
    with serving([spec], limits) as running:
        url = f"http://127.0.0.1:{running.port}/v2/models/small/infer"
        assert post(url, content=b" " * 5000).status_code == 413
        client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{running.port}")
        with pytest.raises(tritonclient.http.InferenceServerException, match="3 samples, not 4"):
            infer(client, tritonclient.http, samples(4))
        client.close()


def test_messages_that_are_none_are_invalid_arguments(serving, spec) -> None:
    with serving([spec]) as running, grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as c:
        for method in ("ModelInfer", "ServerLive", "RepositoryIndex"):
            call = c.unary_unary(f"/inference.GRPCInferenceService/{method}")
            with pytest.raises(grpc.RpcError) as caught:
                call(b"\xff\xff", timeout=300)
            error: Any = caught.value
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert error.details() == f"the request is no message of type {method}Request"
        with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
            c.unary_unary("/inference.GRPCInferenceService/ModelStatistics")(b"", timeout=300)


def test_paths_and_methods_that_are_none_have_the_protocols_error(serving, spec) -> None:
    with serving([spec]) as running:
        base = f"http://127.0.0.1:{running.port}"
        nowhere = get(f"{base}/v1/models/small:predict")
        wrong = httpx.put(f"{base}/v2/models/small/infer", content=b"{}", timeout=300)
    assert (nowhere.status_code, wrong.status_code) == (404, 405)
    assert nowhere.json() == {"error": "'/v1/models/small:predict': there is no such path"}
    assert "the method 'PUT' is not for it" in wrong.json()["error"]


def test_compressed_requests_are_refused(serving, spec) -> None:
    with serving([spec]) as running:
        url = f"http://127.0.0.1:{running.port}/v2/models/small/infer"
        reply = post(url, content=b"{}", headers={"Content-Encoding": "gzip"})
    assert reply.status_code == 415
    assert reply.json() == {"error": "Content-Encoding 'gzip': send requests as they are"}


def test_web_pages_load_and_unload_nothing(serving, spec) -> None:
    with serving([spec]) as running:
        url = f"http://127.0.0.1:{running.port}/v2/repository/models/small"
        origin = {"Origin": "https://example.org"}
        refused = [post(f"{url}/{change}", headers=origin) for change in ("load", "unload")]
        ready = get(f"http://127.0.0.1:{running.port}/v2/health/ready")
    assert [reply.status_code for reply in refused] == [403, 403]
    assert "web pages may not" in refused[0].json()["error"]
    assert ready.status_code == 200


def test_messages_that_arrive_slowly_are_given_up(serving, spec) -> None:
    ending = threading.Event()

    def nothing() -> Iterator[bytes]:
        ending.wait(300)
        yield from ()

    with (
        serving([spec], Limits(timeout_s=1)) as running,
        grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel,
    ):
        call = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError, match="did not arrive within 1 seconds"):
            call(nothing(), timeout=300)
        ending.set()
        with pytest.raises(grpc.RpcError, match="has no message"):
            call(iter(()), timeout=300)


def test_messages_wait_for_their_turn_to_arrive(serving, spec) -> None:
    ending = threading.Event()

    def slow() -> Iterator[bytes]:
        ending.wait(300)
        yield b""

    limits = Limits(request_bytes=4096, held_bytes=2 * 4096 - 1)  # room for one at a time
    with (
        serving([spec], limits) as running,
        grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel,
    ):
        call = channel.stream_unary("/inference.GRPCInferenceService/ServerLive")
        assert call(iter([b""]), timeout=300)
        first = call.future(slow(), timeout=300)

        def others_pass() -> None:
            until = time.monotonic() + 20
            while time.monotonic() < until:
                call(iter([b""]), timeout=0.5)

        try:
            with pytest.raises(grpc.RpcError, match="Deadline Exceeded"):
                others_pass()  # until the first one has taken the only place
            waiting = call.future(iter([b""]), timeout=300)
            assert not first.done()
        finally:
            ending.set()
        assert first.result() == waiting.result() != b""


def test_requests_that_arrive_slowly_are_given_up(serving, spec) -> None:
    with (
        serving([spec], Limits(timeout_s=1)) as running,
        socket.create_connection(("127.0.0.1", running.port), 300) as slow,
    ):
        slow.sendall(
            b"POST /v2/models/small/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
        )
        assert b"408" in slow.recv(1000).split(b"\r\n")[0]


def test_all_requests_together_have_a_limit(serving, spec) -> None:
    limits = Limits(request_bytes=4096, held_bytes=6000)
    head = b"POST /v2/models/small/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n"
    with serving([spec], limits) as running:
        url = f"http://127.0.0.1:{running.port}/v2/models/small/infer"
        with socket.create_connection(("127.0.0.1", running.port), 300) as slow:
            slow.sendall(head + bytes(3500))
            while post(url, content=bytes(3000)).status_code == 400:
                time.sleep(0.01)  # what the other connection sent is still under way
            busy = post(url, content=bytes(3000))
            with (
                tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{running.grpc_port}") as rpc,
                pytest.raises(tritonclient.grpc.InferenceServerException, match="RESOURCE_EXHAUS"),
            ):
                infer(rpc, tritonclient.grpc, samples(6))
        while post(url, content=bytes(3000)).status_code == 429:
            time.sleep(0.01)
    assert busy.status_code == 429
    assert "try again later" in busy.json()["error"]


def test_unknown_names_are_not_found_and_open_no_file(serving, spec) -> None:
    with serving([spec]) as running:
        base = f"http://127.0.0.1:{running.port}/v2"
        for path in ("models/none", "models/small/versions/2", "models/..%2F..%2Fetc%2Fpasswd"):
            assert get(f"{base}/{path}").status_code == 404
        assert post(f"{base}/repository/models/%2Fetc%2Fpasswd/load").status_code == 404
        assert post(f"{base}/models/none/infer", content=b"{}").status_code == 404


def test_metrics_count_requests_and_batches(serving, spec) -> None:
    with serving([spec]) as running:
        client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{running.port}")
        infer(client, tritonclient.http, samples(5))
        client.close()
        text = get(f"http://127.0.0.1:{running.port}/metrics").text
    assert 'trencadis_requests_total{model="small",protocol="rest",status="ok"} 1.0' in text
    assert 'trencadis_batch_samples_sum{model="small"} 5.0' in text
    assert 'trencadis_device_ready{device="0:emulator",model="small",version="1"} 1.0' in text


def test_a_port_that_is_taken_is_one_line(serving, spec) -> None:
    from trencadis_serve.endpoints import Endpoints
    from trencadis_serve.server import serve

    with serving([spec]) as running:
        with pytest.raises(UserError, match="cannot listen there"):
            serve([spec], Limits(), Endpoints(port=running.port, grpc_port=None))
        with pytest.raises(UserError, match="--grpc-port"):
            serve([spec], Limits(), Endpoints(port=0, grpc_port=running.grpc_port))
