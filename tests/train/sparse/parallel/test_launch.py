import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")

from trencadis_train.errors import TrainingError
from trencadis_train.sparse.parallel.launch import Place

RECIPE = """
name = "across"
engine = "sparse"
[data]
set = "digits"
[[layer]]
kind = "linear"
units = 32
[[layer]]
kind = "linear"
units = 10
[training]
epochs = 2
[sparse]
epsilon = 5
[quantisation]
epochs = 0
"""


def test_place_by_the_variables_of_torchrun() -> None:
    variables = {"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1"}
    place = Place.of(variables)
    assert (place.rank, place.size, place.restarts) == (1, 3, 0)
    assert place.own_address(9) == "127.0.0.1"
    with pytest.raises(TrainingError, match="RANK must be a number, not ''; start by torchrun"):
        Place.of({})
    for change in ({"WORLD_SIZE": "1"}, {"MASTER_ADDR": ""}, {"RANK": "3"}):
        with pytest.raises(TrainingError, match="a server and at least one worker"):
            Place.of(variables | change)


@pytest.fixture
def spaces() -> Iterator[list[str]]:
    """Two network namespaces with a wire between them: two machines, as far as sockets know."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("network namespaces need root and the command ip")
    names = [f"tr{os.getpid()}{end}" for end in "ab"]
    done = subprocess.run(["ip", "netns", "add", names[0]], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no network namespaces here")
    try:
        ip("netns", "add", names[1])
        ip(
            "link",
            "add",
            names[0],
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            names[1],
            "netns",
            names[1],
        )
        for number, name in enumerate(names, 1):
            ip("-n", name, "addr", "add", f"10.231.7.{number}/24", "dev", name)
            for device in (name, "lo"):
                ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def test_torchrun_trains_between_two_machines(spaces: list[str], tmp_path: Path) -> None:
    recipe = tmp_path / "across.toml"
    recipe.write_text(RECIPE)
    processes = []
    for rank, name in enumerate(spaces):
        command = ["ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run"]
        command += ["--nnodes", "2", "--node-rank", str(rank), "--nproc-per-node", "1"]
        command += ["--master-addr", "10.231.7.1", "--master-port", "29500", "-m"]
        command += ["trencadis_train.sparse.parallel.launch", str(recipe), "-o", str(tmp_path)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    outputs = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert json.loads(outputs[0][0])["epochs"]["float"] == 2
    assert (tmp_path / "across.onnx").exists()
