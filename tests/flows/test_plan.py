from typing import Any

import pytest

from trencadis_flows.plan import BuildPlan, Program, Step

TOOL = Program(name="tool", product="Tool")


def step(**changes: Any) -> Step:
    fields = {
        "name": "one",
        "title": "does something",
        "program": TOOL,
        "arguments": ("a",),
        "inputs": ("in",),
        "outputs": ("out",),
    }
    return Step(**(fields | changes))


def test_digest_depends_on_everything() -> None:
    plans = [
        BuildPlan(files={"in": "1"}, steps=(step(),)),
        BuildPlan(files={"in": "2"}, steps=(step(),)),
        BuildPlan(files={"in": b"1"}, steps=(step(arguments=("b",)),)),
        BuildPlan(files={"in": "1", "more": ""}, steps=(step(),)),
        BuildPlan(files={"in": "1"}),
    ]
    assert len({plan.digest for plan in plans}) == len(plans)
    assert plans[0].digest == BuildPlan(files={"in": b"1"}, steps=(step(),)).digest


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../b", "./a", "a//b"])
def test_nothing_outside_the_folder(path: str) -> None:
    with pytest.raises(ValueError, match="plain path inside the folder"):
        BuildPlan(files={path: ""})
    with pytest.raises(ValueError, match="plain path inside the folder"):
        BuildPlan(files={"in": ""}, steps=(step(outputs=(path,)),))


def test_steps_need_what_is_made_before_them() -> None:
    with pytest.raises(ValueError, match="step one needs in, which nothing makes"):
        BuildPlan(files={}, steps=(step(),))
    second = step(name="two", inputs=("out",), outputs=("last",))
    BuildPlan(files={"in": ""}, steps=(step(), second), results=("last",))
    with pytest.raises(ValueError, match="step two needs out"):
        BuildPlan(files={"in": ""}, steps=(second, step()))
    with pytest.raises(ValueError, match="other is to be delivered, but nothing makes it"):
        BuildPlan(files={"in": ""}, steps=(step(),), results=("other",))
    with pytest.raises(ValueError, match="a name of its own"):
        BuildPlan(files={"in": ""}, steps=(step(), step(outputs=("x",))))
