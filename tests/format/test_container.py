import copy
import hashlib
import json
import random
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from fixtures.containers import blocks_for
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trencadis_format.compiled import FORMAT_VERSION, MAX_FILE_BYTES, CompiledNetwork, load_overlay
from trencadis_format.config import KernelConfig
from trencadis_format.errors import ContainerError
from trencadis_format.image import HEADER, Block, Target, pack_blocks
from trencadis_format.layer_tables import EMIT, FEED, SEQUENCE, SLOT
from trencadis_format.overlay import Overlay
from trencadis_format.widths import KEY_BITS

FUZZ = settings(
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def rewrite(path: Path, change: Any, image: bytes | None = None) -> None:
    """Change the manifest of a container by hand, and do it well: digests are right.

    Of the only segment, what it reads and makes and its digest are shown beside the rest.
    """
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    manifest = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["manifest"])
    stored = safetensors.numpy.load(data)["segment0000"].tobytes()
    image = stored if image is None else image
    segment = manifest["segments"][0]
    shown = ("input", "output", "sha256")
    manifest |= {name: segment.pop(name) for name in shown}
    manifest["sha256"] = hashlib.sha256(image).hexdigest()
    change(manifest)
    segment |= {name: manifest.pop(name) for name in shown if name in manifest}
    text = json.dumps(manifest)
    path.write_bytes(
        safetensors.numpy.save(
            {"segment0000": np.frombuffer(image, np.uint8)},
            {
                "format": "trencadis-overlay",
                "manifest": text,
                "sha256": hashlib.sha256(text.encode()).hexdigest(),
            },
        )
    )


def refused(path: Path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(ContainerError) as error:
        load_overlay(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


def attempt(path: Path) -> Overlay | None:
    """An overlay, or None if it is refused properly."""
    try:
        return load_overlay(path)
    except ContainerError as error:
        text = str(error)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return None


def test_an_overlay_comes_back_as_it_was(overlay, path) -> None:
    CompiledNetwork.of_overlay(overlay).save(path)
    assert load_overlay(path) == overlay
    assert (overlay.input_bytes, overlay.output_bytes) == (16, 8)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_same_overlay_gives_the_same_bytes(overlay, path) -> None:
    versions = set()
    for _ in range(8):
        CompiledNetwork.of_overlay(overlay).save(path)
        versions.add(path.read_bytes())
    assert len(versions) == 1
    # It is what other software knows as safetensors.
    assert safetensors.numpy.load(path.read_bytes())["segment0000"].tobytes() == overlay.image


def test_missing_file(path) -> None:
    assert "cannot be read: No such file" in refused(path)


def test_folder(tmp_path) -> None:
    assert "not a regular file" in refused(tmp_path)


def test_endless_device() -> None:
    assert "not a regular file" in refused(Path("/dev/zero"))


def test_oversized_file(path) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    assert f"{MAX_FILE_BYTES + 1} bytes, more than the {MAX_FILE_BYTES} that are read" in refused(
        path
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes are no container"),
        (b"1234567", "7 bytes are no container"),
        (bytes(8), "not a usable overlay image"),
        (b"\xff" * 64, "the container is truncated"),
        (struct.pack("<Q", 2) + b"{}", "its metadata is missing or not an object"),
        (struct.pack("<Q", 2) + b"[]", "its header is missing or not an object"),
        (struct.pack("<Q", 1 << 20) + b"[" * (1 << 20), "not a usable overlay image"),
        (struct.pack("<Q", 2) + b"\xff\xfe", "not a usable overlay image"),
    ],
)
def test_foreign_files(path, data, message) -> None:
    path.write_bytes(data)
    assert message in refused(path)


def test_another_container_format(path) -> None:
    path.write_bytes(safetensors.numpy.save({"image": np.zeros(4, np.uint8)}, {"format": "pt"}))
    assert "its format is 'pt', not 'trencadis-overlay'; compile the model again" in refused(path)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"other": np.zeros(4, np.uint8)}, "its segments are not the tensors that it holds"),
        ({"segment0000": np.zeros(4, np.float32)}, "its tensors are not of bytes"),
        (
            {"segment0000": np.zeros(4, np.uint8), "other": np.zeros(4, np.uint8)},
            "its segments are not the tensors that it holds",
        ),
    ],
    ids=["name", "type", "number"],
)
def test_other_tensors(overlay, path, tensors, message) -> None:
    CompiledNetwork.of_overlay(overlay).save(path)
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    path.write_bytes(safetensors.numpy.save(tensors, metadata))
    assert message in refused(path)


def test_other_versions_of_the_format(overlay, path) -> None:
    CompiledNetwork.of_overlay(overlay).save(path)
    original = path.read_bytes()
    rewrite(path, lambda m: m.pop("format_version"))
    assert f"of version 2 of the file format, older than this one's {FORMAT_VERSION}" in refused(
        path
    )
    path.write_bytes(original)
    rewrite(path, lambda m: m.update(format_version=FORMAT_VERSION + 1))
    assert f"of version {FORMAT_VERSION + 1} of the file format, newer" in refused(path)


@FUZZ
@given(data=st.data())
def test_damaged_files(overlay, path, data) -> None:
    CompiledNetwork.of_overlay(overlay).save(path)
    damaged = bytearray(path.read_bytes())
    place = st.integers(0, len(damaged) - 1)
    for index, value in data.draw(
        st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=8)
    ):
        damaged[index] = value
    path.write_bytes(damaged)
    # What is still in order is still the same network, but for samples in its report.
    loaded = attempt(path)
    assert loaded is None or loaded.image == overlay.image


@FUZZ
@given(data=st.data())
def test_truncated_files(overlay, path, data) -> None:
    CompiledNetwork.of_overlay(overlay).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    refused(path)


@FUZZ
@given(st.binary(max_size=200))
def test_random_files(tmp_path, data) -> None:
    path = tmp_path / "net.tcd"
    path.write_bytes(data)
    refused(path)


def fields_of(data: Any, *above: Any) -> Iterator[tuple[Any, ...]]:
    for name, value in data.items() if isinstance(data, dict) else enumerate(data):
        yield (*above, name)
        if isinstance(value, (dict, list)):
            yield from fields_of(value, *above, name)


WRONG = [None, True, -1, 0, 10**400, 1.5, float("nan"), "text", [], {"a": 1}, [None], [10**400]]


def test_every_field_with_every_kind_of_wrong_value(overlay, path) -> None:
    CompiledNetwork.of_overlay(overlay).save(path)
    original = path.read_bytes()
    seen = []
    rewrite(path, lambda manifest: seen.append(copy.deepcopy(manifest)))
    places = list(fields_of(seen[0]))
    assert len(places) > 60
    # The digest is made right, so that it is not the only thing that notices.
    accepted = set()
    for place in places:
        for value in WRONG:

            def change(manifest: Any, place=place, value=value) -> None:
                *above, last = place
                inner = manifest
                for name in above:
                    inner = inner[name]
                inner[last] = value
                manifest["configuration"] = digest(manifest["kernel"])

            path.write_bytes(original)
            rewrite(path, change)
            loaded = attempt(path)
            if loaded is not None:
                usable(loaded)
                accepted.add(".".join(map(str, place)))
    # Where another value of the right type makes sense too.
    assert accepted <= {
        "configuration",
        "sha256",
        "name",
        "input.name",
        "output.name",
        "input.shape.0",
        "output.shape.0",
        "input.scale",
        "output.scales.0",
        "output.offsets",
        "kernel.core.engines.0.tables",
        "kernel.core.engines.0.whole_rows",
        "input.zero_key",
        "output.zero_key",
        "input.key_offset",
        "input.nonzeros",  # 0, which it is
        "output.key_offset",
        "output.numerators",  # empty, which these are
        "output.addends",
        "output.denominators",
        "output.order.0",
        "output.order.1",
        "output.order.2",
        "report",
        "report.cycles_are",
        "report.cycles_per_word",
        "inputs.0.shape.0",  # None, which it is
        "segments.0.nodes",
        "segments.0.maps",
        "segments.0.report",
        "segments.0.report.cycles_are",
        "segments.0.report.cycles_per_word",
        "source.sha256",
        "source.judged_sha256",
        "source.options",
    }


def digest(kernel: Any) -> str:
    try:
        return f"{KernelConfig.from_dict(kernel).digest:016x}"
    except Exception:
        return "0" * 16


def usable(overlay: Overlay) -> None:
    """Whatever is accepted can be worked with."""
    keys = overlay.input.keys(np.zeros((2, 1, 3, 3), overlay.input.dtype))
    assert keys.shape == (2, 3, 3, 1)
    assert overlay.output_bytes == 8


@pytest.mark.parametrize("place", ["", "input", "output", "kernel.core.engines.0"])
def test_missing_and_unknown_fields(overlay, path, place) -> None:
    CompiledNetwork.of_overlay(overlay).save(path)
    original = path.read_bytes()
    for unknown in (False, True):

        def change(manifest: Any, unknown=unknown) -> None:
            inner = manifest
            for name in place.split(".") if place else []:
                inner = inner[int(name) if name == "0" else name]
            if unknown:
                inner["surprise"] = 1
            else:
                inner.pop("lanes" if "lanes" in inner else sorted(inner)[-1])
            manifest["configuration"] = digest(manifest["kernel"])

        path.write_bytes(original)
        rewrite(path, change)
        if place or not unknown:
            refused(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(abi=99), "it was made for version 99 of the formats, this is 2"),
        (lambda m: m.update(sha256="0"), "the image does not match its digest"),
        (lambda m: m.update(configuration="0"), "does not match its digest"),
        (lambda m: m["kernel"].update(cores=0), "KernelConfig.cores must be an integer in 1..64"),
        (lambda m: m["kernel"].update(bus_bits=64.0), "its kernel has bus_bits 64.0"),
        (lambda m: m["input"].update(dtype="object"), "the type of its input is 'object'"),
        (lambda m: m["input"].update(axes="CHH"), "the axes of its input are 'CHH'"),
        (lambda m: m["input"].update(axes="CH"), "leave out some that are not 1"),
        (
            lambda m: m["input"].update(shape=[1, 3, 3, 3]),
            r"the shape of its input is [1, 3, 3, 3]",
        ),
        (lambda m: m["input"].update(shape=[1, -3, -3, 1]), "the shape of its input is"),
        (lambda m: m["input"].update(shape=[1, None, 3, 3]), "the shape of its input is"),
        (lambda m: m["input"].update(scale=0), "a scale is not positive"),
        (lambda m: m["output"].update(order=[0, 1, 4]), "the order of its output is not one"),
        (lambda m: m["output"].update(scales=[1, 1]), "its output has the wrong number of scales"),
        (
            lambda m: m["output"].update(numerators=[1], addends=[0], denominators=[3]),
            "its output has the wrong number of ratios",
        ),
        (lambda m: m["output"].update(addends=[1]), "its output has the wrong number of ratios"),
        (lambda m: m["output"].update(pieces=3), "the sizes of its output do not fit each other"),
        (lambda m: m["output"].update(pieces=1 << 40), "sample sizes are not those of the image"),
        (lambda m: m["output"].update(dtype="int8"), "its output is not int8"),
        (lambda m: m.update(report={}), "its report does not tell the cycles of an inference"),
    ],
)
def test_hand_edited_manifests(overlay, path, change, message) -> None:
    CompiledNetwork.of_overlay(overlay).save(path)
    rewrite(path, change)
    text = refused(path)
    assert message in text
    assert text.endswith("; compile the model again")


def block(target: Target, rows: list[int], bits: int, **where: int) -> Block:
    return Block(target, rows, bits, **where)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (block(Target.SLOT, [0], SLOT.bits, engine=1), "there are 1 engines"),
        (block(Target.SLOT, [0], SLOT.bits, unit=2), "there are 2 units"),
        (block(Target.SLOT, [0], SLOT.bits, start=16), "rows to 17 of 16"),
        (block(Target.SLOT, [0] * 17, SLOT.bits), "rows to 17 of 16"),
        (block(Target.SLOT, [1 << 20], 32), "a row is longer than 17 bits"),
        (block(Target.SLOT, [0], 64), "rows of 64 bits instead of 17"),
        (block(Target.SEQUENCE, [0] * 5, SEQUENCE.bits), "rows to 5 of 4"),
        (block(Target.TABLE, [0], KEY_BITS), "rows to 1 of 0"),
        (block(Target.CLEAR, [0], 32), "has rows"),
        (block(Target.HEADER, [0], HEADER.bits), "is not the first"),
        (block(Target.FEED, [0], FEED.bits), "does not describe its input once"),
        (block(Target.INPUT, [0], EMIT.bits), "does not say how its input is written"),
    ],
    ids=lambda value: getattr(getattr(value, "target", None), "name", ""),
)
def test_blocks_that_do_not_fit_the_hardware(overlay, path, extra, message) -> None:
    CompiledNetwork.of_overlay(overlay).save(path)
    image = pack_blocks(blocks_for(overlay.kernel, extra))
    rewrite(path, lambda manifest: None, image)
    assert message in refused(path)


def test_images_for_other_hardware(overlay, path) -> None:
    other = replace(overlay.kernel, cores=2)
    changed = replace(overlay, image=pack_blocks(blocks_for(other)))
    CompiledNetwork.of_overlay(changed).save(path)
    assert "the image was built for another configuration" in refused(path)


def sparse(overlay: Overlay, *extra: Block, **kernel: Any) -> Overlay:
    """The overlay with an input of 3 positions with 1 of 3 channels each: two beats."""
    core = replace(overlay.kernel.core, **kernel)
    configuration = replace(overlay.kernel, core=core)
    blocks = blocks_for(configuration, *extra)
    feed = FEED.unpack(blocks[2].rows[0]) | {"sparse": 1}
    blocks[2] = replace(blocks[2], rows=[FEED.pack(**feed)])
    form = replace(overlay.input, shape=(None, 3, 3), axes="CW", channels=3, rows=1, nonzeros=1)
    return replace(overlay, kernel=configuration, input=form, image=pack_blocks(blocks))


def written(**changes: int) -> Block:
    """Entry of the input of `sparse`, with changes."""
    fields = dict.fromkeys((field.name for field in EMIT.fields), 0)
    fields |= {"width": 2, "zero": 128, "pitch": 1} | changes
    return block(Target.INPUT, [EMIT.pack(**fields)], EMIT.bits)


WRITTEN = written()


def test_sparse_inputs(overlay, path) -> None:
    saved = sparse(overlay, WRITTEN, sparse_input=True)
    CompiledNetwork.of_overlay(saved).save(path)
    assert load_overlay(path) == saved
    assert saved.input_bytes == 16


@pytest.mark.parametrize(
    "changes",
    [{"width": 1}, {"height": 1}, {"zero": 5}, {"emission": 3}, {"out_map": 1}, {"buffers": 2}],
    ids=str,
)
def test_sparse_inputs_that_are_written_otherwise(overlay, path, changes) -> None:
    saved = sparse(overlay, written(**changes), sparse_input=True)
    CompiledNetwork.of_overlay(saved).save(path)
    assert "its sparse input is not written as its manifest says" in refused(path)


@pytest.mark.parametrize(
    ("extra", "kernel", "form", "message"),
    [
        ((), {"sparse_input": True}, {}, "does not say how its input is written"),
        ((WRITTEN,), {}, {}, "its input is sparse, which the hardware does not take"),
        ((WRITTEN,), {"sparse_input": True}, {"nonzeros": 4}, "sample sizes are not those"),
        (
            (WRITTEN,),
            {"sparse_input": True},
            {"nonzeros": 0, "shape": (None, 3, 5), "columns": 5},
            "the manifest's input is sparse where the image's is not, or the other way round",
        ),
    ],
    ids=["unwritten", "hardware", "entries", "dense"],
)
def test_sparse_inputs_that_do_not_fit(overlay, path, extra, kernel, form, message) -> None:
    saved = sparse(overlay, *extra, **kernel)
    changed = replace(saved, input=replace(saved.input, **form))
    CompiledNetwork.of_overlay(changed).save(path)
    assert message in refused(path)


def test_images_with_other_sample_sizes(overlay, path) -> None:
    form = replace(overlay.input, shape=(None, 1, 5, 5), rows=5, columns=5)
    CompiledNetwork.of_overlay(replace(overlay, input=form)).save(path)
    assert "the manifest's sample sizes are not those of the image" in refused(path)


@FUZZ
@given(data=st.data())
def test_damaged_images_with_the_right_digest(overlay, path, data) -> None:
    CompiledNetwork.of_overlay(overlay).save(path)
    image = bytearray(overlay.image)
    for index, value in data.draw(
        st.lists(
            st.tuples(st.integers(0, len(image) - 1), st.integers(0, 255)), min_size=1, max_size=4
        )
    ):
        image[index] = value
    rewrite(path, lambda manifest: None, bytes(image[: data.draw(st.integers(0, len(image)))]))
    loaded = attempt(path)
    if loaded is not None:
        usable(loaded)


def test_every_flipped_bit_of_the_header_is_noticed(overlay: Overlay, path: Path) -> None:
    CompiledNetwork.of_overlay(overlay).save(path)
    original = path.read_bytes()
    (length,) = struct.unpack("<Q", original[:8])
    rng = random.Random(0)
    for place in rng.sample(range(8 * (8 + length)), 400):
        data = bytearray(original)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        refused(path)
