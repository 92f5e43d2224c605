"""The page's table is what was measured."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.bench.serving.test_targets import ROW, SINGLE

from trencadis_bench.serving.docs import BEGIN, END, main, rebuilt
from trencadis_format.errors import UserError

PAGE = f"before\n{BEGIN}old\n{END}\nafter\n"
DOCS = Path(__file__).parents[3] / "docs/serving.md"
ROWS = [
    asdict(replace(ROW, p99_ms=2471.3)),
    asdict(SINGLE),
    asdict(replace(ROW, device="emulator", share_of_session=0.9)),
]


def test_rows_replace_the_old_ones() -> None:
    page = rebuilt(PAGE, ROWS)
    assert page.startswith("before\n")
    assert page.endswith(f"{END}\nafter\n")
    assert "old" not in page
    assert "| cpu | gRPC | 8 | 256 | 256 | 100 | 1 | 2,471 | **61%** | 70% | 5.00 |" in page
    assert "| cpu | HTTP | 8 | 1 | 256 | 100 | 1 | 2 | 5% | 70% | 2.90 |" in page
    assert page.count("**") == 2
    assert rebuilt(page, ROWS) == page


def test_pages_without_marks_are_refused() -> None:
    with pytest.raises(UserError, match="bench-serving: begin"):
        rebuilt("nothing", ROWS)


def test_the_command_reads_what_the_benchmark_wrote(tmp_path: Path) -> None:
    page, rows = tmp_path / "page.md", tmp_path / "serving.json"
    page.write_text(DOCS.read_text())
    rows.write_text(json.dumps(ROWS))
    (tmp_path / "serving-memory.json").write_text(
        json.dumps(
            {"requests": 100_000, "errors": 0, "rss_first_mib": 144.2, "rss_last_mib": 146.0}
        )
    )
    done = CliRunner().invoke(main, ["--rows", str(rows), "--page", str(page)])
    assert done.exit_code == 0, done.output
    assert "**61%**" in page.read_text()
    assert "100,000 further requests" in page.read_text()
    assert "from 144 to 146 MiB" in page.read_text()
