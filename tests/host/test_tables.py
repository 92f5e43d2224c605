import pytest
from rich.console import Console

from trencadis_host.tables import figure_text, figures_table


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (57362, "57,362"),
        (0, "0"),
        (0.0, "0"),
        (1741.97, "1,742"),
        (26.914, "26.9"),
        (0.1002, "0.1"),
        (0.00011294, "1.13e-04"),
        (-0.25, "-0.25"),
        ("static", "static"),
        (True, "True"),
    ],
)
def test_figures(value: object, text: str) -> None:
    assert figure_text(value) == text


def test_what_was_not_measured_is_left_out() -> None:
    console = Console(width=60)
    with console.capture() as captured:
        console.print(figures_table("[x]", {"words_per_s": 12.5, "cycles": None}))
    lines = captured.get().splitlines()
    assert lines[0].strip() == "[x]"
    assert len(lines) == 4
    assert lines[2].split("│")[1:3] == [" inferences per s ", " 12.5 "]
