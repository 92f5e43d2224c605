"""Ray Serve and Ray Data on one machine."""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray is not installed: make test-ray")

import pyarrow
import pyarrow.parquet
import ray
from click.testing import CliRunner

from trencadis_format.errors import UserError
from trencadis_host import Session
from trencadis_serve.ray_batch import infer_folder, main
from trencadis_serve.ray_serve import CARD, model_application

Compiled = Callable[..., tuple[Path, Path]]

PORT = 18733

NAME = f"killed-{os.getpid()}"
"""Of the model whose replica is killed: no other process has it."""


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    ray.init(num_cpus=4, resources={CARD: 2}, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def samples(count: int) -> Any:
    return np.random.default_rng(1).normal(0, 3, (count, 2, 8, 8)).astype(np.float32)


def ask(x: Any) -> Any:
    body = {
        "inputs": [
            {
                "name": "image",
                "datatype": "FP32",
                "shape": list(x.shape),
                "data": x.ravel().tolist(),
            }
        ]
    }
    url = f"http://127.0.0.1:{PORT}/v2/models/{NAME}/infer"
    with urlopen(Request(url, json.dumps(body).encode()), timeout=300) as reply:
        outputs = json.load(reply)["outputs"][0]
    return np.array(outputs["data"], np.float32).reshape(outputs["shape"])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def processes_of(name: str) -> list[int]:
    """Replicas of a deployment, by what Ray calls their processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"ServeReplica:{name}:".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def test_a_killed_replica_is_replaced_under_load(compiled: Compiled) -> None:
    image = compiled()[1]
    x = samples(4)
    with Session(image, "emulator") as session:
        expected = session.run(None, {"image": x})[0]
    ray.serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    application = model_application(image, name=NAME, device="emulator", replicas=2, cards=1)
    ray.serve.run(application, name=NAME)
    right, wrong = [], []
    ending = threading.Event()

    def load() -> None:
        while not ending.is_set():
            try:
                right.append(np.array_equal(ask(x), expected))
            except Exception as error:
                wrong.append(error)
                time.sleep(0.1)

    def more(count: int) -> None:
        enough = len(right) + count
        wait_until(lambda: len(right) >= enough)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    more(20)
    replicas = processes_of(NAME)
    assert len(replicas) == 2
    os.kill(replicas[0], signal.SIGKILL)
    wait_until(lambda: len(set(processes_of(NAME)) - {replicas[0]}) == 2)
    more(20)  # Ray has noticed
    failed = len(wrong)
    more(20)
    ending.set()
    for thread in threads:
        thread.join()
    ray.serve.delete(NAME)
    assert all(right)
    assert len(wrong) == failed, "only what was under way on the killed one may fail"
    assert len(wrong) < len(right), "the other replica went on"


def test_a_folder_of_arrays_is_inferred(compiled: Compiled, tmp_path: Path) -> None:
    image = compiled()[1]
    x = samples(10)
    (tmp_path / "in").mkdir()
    for number, sample in enumerate(x):
        np.save(tmp_path / "in" / f"{number:03}.npy", sample[None])
    count = infer_folder(image, tmp_path / "in", tmp_path / "out", device="emulator", batch=4)
    assert count == 10
    table = ray.data.read_parquet(str(tmp_path / "out")).to_pandas().sort_values("path")
    with Session(image, "emulator") as session:
        expected = session.run(None, {"image": x})[0]
    assert np.array_equal(np.stack(list(table["logits"])), expected)


def test_a_folder_of_tables_is_inferred(compiled: Compiled, tmp_path: Path) -> None:
    image = compiled()[1]
    x = samples(10)
    (tmp_path / "in").mkdir()
    for part in (0, 5):
        names = [f"sample {i}" for i in range(part, part + 5)]
        images = [row.ravel().tolist() for row in x[part : part + 5]]
        table = pyarrow.table({"name": names, "image": images})
        pyarrow.parquet.write_table(table, tmp_path / "in" / f"{part}.parquet")
    folders = [str(tmp_path / "in"), str(tmp_path / "out")]
    done = CliRunner().invoke(main, [str(image), *folders, "--device=emulator", "--actors=8"])
    assert done.exit_code == 0, done.output
    assert f"10 samples in {tmp_path / 'out'}" in done.output
    found = ray.data.read_parquet(str(tmp_path / "out")).to_pandas()
    found = found.set_index("name").loc[[f"sample {i}" for i in range(10)]]
    with Session(image, "emulator") as session:
        expected = session.run(None, {"image": x})[0]
    assert np.array_equal(np.stack(list(found["logits"])), expected)


def test_replicas_are_added_while_requests_wait(compiled: Compiled) -> None:
    application = model_application(
        compiled()[1], name="small", device="emulator", replicas=(1, 3), cards=0.5, waiting=2
    )
    ray.serve.run(application, name="scaled", route_prefix="/scaled")
    deployment = ray.serve.status().applications["scaled"].deployments["small"]
    assert deployment.replica_states == {"RUNNING": 1}
    config = application._bound_deployment._deployment_config.autoscaling_config
    assert (config.min_replicas, config.max_replicas) == (1, 3)
    assert config.target_ongoing_requests == 2
    ray.serve.delete("scaled")


def test_other_folders_are_refused(compiled: Compiled, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be a folder"):
        infer_folder(compiled()[1], tmp_path / "none", tmp_path / "out")
    with pytest.raises(UserError, match="exists"):
        infer_folder(compiled()[1], tmp_path, tmp_path)
