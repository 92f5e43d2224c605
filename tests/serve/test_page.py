"""The page on serving: its commands are run, and what is shipped for other programs is read."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from trencadis_bench.serving.servers import served
from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_host import Session
from trencadis_serve.cli import main
from trencadis_serve.limits import Limits
from trencadis_serve.server import GRACE_S

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "examples/serving"
LONGEST_END_S = Limits().timeout_s + GRACE_S
"""Seconds that a server may take to end."""

BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


def commands_of(program: str) -> list[list[str]]:
    """Arguments of the page's commands of a program."""
    text = (ROOT / "docs/serving.md").read_text()
    lines = "\n".join(BLOCK.findall(text)).splitlines()
    words = [shlex.split(line[2:]) for line in lines if line.startswith("$ ")]
    return [line[1:] for line in words if line[0] == program]


@pytest.fixture(scope="module")
def build(
    tmp_path_factory: pytest.TempPathFactory, compiled: Callable[..., tuple[Path, Path]]
) -> Path:
    """Files that the page's commands expect in `build`."""
    folder = tmp_path_factory.mktemp("page") / "build"
    folder.mkdir()
    image = folder / "digits.tcd"
    compile_model(ROOT / "examples/digits/digits.onnx", load_board("sim")).save(image)
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 28, 28)).astype(np.float32)
    np.save(folder / "digits.npy", images)
    for name in ("words", "words-retrained"):
        shutil.copy(compiled()[1], folder / f"{name}.tcd")
    return folder


def here(arguments: list[str], build: Path) -> list[str]:
    """Arguments with files of this test, and a device for one that is not here."""
    changed = [re.sub(r"\bbuild/", f"{build}/", word) for word in arguments]
    return [re.sub(r"^xrt:\d$", "cpu", word) for word in changed]


def get(address: str, path: str) -> Any:
    with urlopen(f"http://{address}{path}", timeout=300) as reply:
        return json.load(reply)


def test_the_page_has_these_commands() -> None:
    assert [len(commands_of(name)) for name in ("sparse-serve", "python", "curl", "pip")] == [
        3,
        1,
        1,
        1,
    ]


def test_one_model_is_asked_by_the_client(build: Path) -> None:
    command, *_ = commands_of("sparse-serve")
    (client,) = commands_of("python")
    (curl,) = commands_of("curl")
    with served(here(command, build)) as server:
        script, *arguments = here(client, build)
        done = subprocess.run(
            [sys.executable, ROOT / script, *arguments, server.grpc],
            capture_output=True,
            text=True,
            check=True,
        )
        path = curl[-1].removeprefix("localhost:8080")
        meta = get(server.http, path)
    with Session(build / "digits.tcd", "emulator") as session:
        images = np.load(build / "digits.npy")[:32]
        expected = session.run(None, {"input": images})[0].argmax(axis=1)
    assert done.stdout.strip() == str(expected)
    assert meta["name"] == "digits"
    assert meta["parameters"]["predicted_cycles_per_inference"] == "1742"
    assert len(meta["parameters"]["sha256"]) == 64


def test_several_models_are_served(build: Path) -> None:
    command = commands_of("sparse-serve")[1]
    with served(here(command, build)) as server:
        index = get(server.http, "/v2/repository/index")
        newest = get(server.http, "/v2/models/words")
    found = [(row["name"], row["version"], row["state"]) for row in index]
    assert found == [
        ("digits", "1", "READY"),
        ("words", "1", "READY"),
        ("words", "2", "READY"),
    ]
    assert newest["versions"] == ["1", "2"]


def test_several_devices_are_told_to_prometheus(build: Path) -> None:
    command = commands_of("sparse-serve")[2]
    config = (SHIPPED / "prometheus.yml").read_text()
    path = re.search(r"metrics_path: (\S+)", config)
    assert path is not None
    with (
        served(here(command, build)) as server,
        urlopen(f"http://{server.http}{path[1]}", timeout=300) as reply,
    ):
        assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        families = {
            each.name: each for each in text_string_to_metric_families(reply.read().decode())
        }
    ready = families["trencadis_device_ready"].samples
    assert [sample.value for sample in ready] == [1, 1]
    assert [sample.labels["device"] for sample in ready] == ["0:cpu", "1:cpu"]
    assert families["trencadis_requests"].type == "counter"
    assert families["trencadis_batch_samples"].type == "histogram"


def parsed(arguments: list[str]) -> dict[str, Any]:
    """Parsed arguments of the command, without running it."""
    return main.make_context("sparse-serve", [*arguments]).params


def test_the_systemd_unit_starts_the_command() -> None:
    unit = configparser.ConfigParser()
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(SHIPPED / "trencadis-serve.service")
    program, *arguments = shlex.split(unit["Service"]["ExecStart"])
    assert Path(program).name == "sparse-serve"
    assert parsed(arguments)["devices"] == ("auto",)
    assert float(unit["Service"]["TimeoutStopSec"]) >= LONGEST_END_S


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    text = (SHIPPED / "trencadis-serve.service").read_text()
    program = re.search(r"ExecStart=(\S+)", text)
    assert program is not None
    unit = tmp_path / "trencadis-serve.service"
    unit.write_text(text.replace(program[1], sys.executable))
    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_container_of_the_manifest_is_the_shipped_one() -> None:
    yaml = pytest.importorskip("yaml")
    manifest = yaml.safe_load((SHIPPED / "kserve.yaml").read_text())
    assert manifest["apiVersion"] == "serving.kserve.io/v1beta1"
    assert manifest["spec"]["predictor"]["terminationGracePeriodSeconds"] >= LONGEST_END_S
    (container,) = manifest["spec"]["predictor"]["containers"]
    options = parsed(container["args"])
    assert options["host"] == "0.0.0.0"
    assert options["port"] == container["ports"][0]["containerPort"]
    assert {
        container[probe]["httpGet"]["port"] for probe in ("readinessProbe", "livenessProbe")
    } == {options["port"]}
    lines = (SHIPPED / "Containerfile").read_text().splitlines()
    command = next(json.loads(line[4:]) for line in lines if line.startswith("CMD "))
    assert parsed(command)["models"] == options["models"]
    assert f"COPY build/digits.tcd {command[0]}" in lines
    ports = next(line.split()[1:] for line in lines if line.startswith("EXPOSE "))
    assert ports == [str(options["port"]), str(options["grpc_port"])]
