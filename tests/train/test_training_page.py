"""The programs on the page about training run as they stand."""

import re
from pathlib import Path

import pytest

pytest.importorskip("torch")

import onnx

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def test_the_programs_of_the_page_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    onnx.checker.check_model(onnx.load("network.onnx"))
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in printed] == [
        ["0", "192", "of", "400"],
        ["4", "9216", "of", "147456"],
    ]


def test_links_lead_somewhere():
    text = PAGE.read_text()
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors
        else:
            assert (PAGE.parent / target.partition("#")[0]).exists()
    for file in re.findall(r"`((?:train|examples)/[\w/.]+)`", text):
        assert (PAGE.parents[1] / file).exists()
