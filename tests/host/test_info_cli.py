import json

from click.testing import CliRunner

from trencadis_host.info_cli import info


def test_a_compiled_network_is_described(compiled) -> None:
    _, image = compiled()
    shown = CliRunner().invoke(info, [str(image)])
    assert shown.exit_code == 0
    text = " ".join(shown.output.split())
    assert "input image: float32 Nx2x8x8" in text
    assert "output logits: float32 Nx10" in text
    assert "nodes on the overlay" in text
    found = json.loads(CliRunner().invoke(info, [str(image), "--json"]).stdout)
    assert [segment["place"] for segment in found["segments"]] == ["overlay"]
    assert found["format_version"] == 4
    assert len(found["model_sha256"]) == 64


def test_what_is_no_network_is_refused(tmp_path) -> None:
    (tmp_path / "x.tcd").write_bytes(b"no")
    done = CliRunner().invoke(info, [str(tmp_path / "x.tcd")])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"sparse-info: {tmp_path}/x.tcd: ")
