import json
import os
import re
import signal
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from trencadis_bench.serving.servers import served
from trencadis_serve.cli import NEWEST_PYTHON, main, missing


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.tcd"], "none.tcd"),
        (["a.tcd", "b.tcd", "--name", "x"], "--name is for one model"),
        (["a.tcd", "--port", "70000"], "--port must be a port"),
        (["a.tcd", "--max-batch", "0"], "batch must be at least 1"),
        (["a.tcd", "--max-held-mib", "15"], "held_bytes must be at least those of a request"),
        (["a.tcd", "--name", "a/b"], "letters, digits"),
        (["a.tcd", "--metrics-path", "metrics"], "must be a path"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, [*arguments, "--device", "emulator", "--no-grpc"])
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ((3, 15), "needs Python 3.11 to 3.14, not 3.15"),
        ((3, 14), "no module 'grpc'); install it: pip install 'trencadis[serve]'"),
    ],
)
def test_what_is_not_there_is_named(version: tuple[int, int], message: str) -> None:
    assert message in missing("grpc", version)


def test_without_its_packages_the_command_is_one_line(
    compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "trencadis_serve.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = CliRunner().invoke(main, [str(compiled()[1])])
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert "install" in result.stderr


def test_markers_are_those_of_the_command() -> None:
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    newest = ".".join(map(str, (NEWEST_PYTHON[0], NEWEST_PYTHON[1] + 1)))
    marked = [line for line in extras["serve"] + extras["ray"] if "trencadis[" not in line]
    assert all(line.endswith(f"; python_version < '{newest}'") for line in marked)


def test_the_same_name_twice_is_refused(compiled) -> None:
    image = str(compiled()[1])
    result = CliRunner().invoke(
        main, [image, f"small={image}", "--device", "emulator", "--port", "0", "--no-grpc"]
    )
    assert result.exit_code == 2
    assert "is there already" in result.stderr


def test_sigterm_finishes_what_was_accepted(compiled) -> None:
    x = [[[[0.5] * 8] * 8] * 2]
    body = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 2, 8, 8], "data": x}]}
    arguments = [compiled()[1], "--device=emulator", "--max-wait-ms=3000"]
    statuses: list[int] = []
    with served(arguments) as server, ThreadPoolExecutor() as threads:

        def ask() -> None:
            url = f"http://{server.http}/v2/models/small/infer"
            statuses.append(httpx.post(url, json=body, timeout=300).status_code)

        def accepted() -> float:
            """Bytes of requests that wait for company."""
            text = httpx.get(f"http://{server.http}/metrics", timeout=300).text
            return float(re.findall(r"^trencadis_held_bytes (\S+)$", text, re.MULTILINE)[0])

        asked = [threads.submit(ask) for _ in range(3)]
        while accepted() < 3 * len(json.dumps(body)) * 0.9 and not statuses:
            time.sleep(0.01)
        os.kill(server.process, signal.SIGTERM)
        for each in asked:
            each.result()
    assert statuses == [200] * 3
    assert len(server.lines) == 1, "nothing but the line that tells of the start"
