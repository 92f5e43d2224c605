"""Hostile requests on a real server, and what is a finding."""

from collections.abc import Callable
from pathlib import Path

import pytest

from trencadis_bench.serving.attacks import KINDS, make_attack
from trencadis_bench.serving.fuzz import attack_server
from trencadis_bench.serving.hostile import LIMITS, Attack, Target
from trencadis_bench.serving.send import Reply, complaint
from trencadis_bench.serving.servers import served
from trencadis_host import Session

TARGET = Target("small", "image", "logits", (2, 8, 8))


def test_hostile_requests_are_refused_and_reach_no_device(
    compiled: Callable[..., tuple[Path, Path]],
) -> None:
    image = compiled()[1]
    with (
        Session(image, "emulator") as session,
        served([image, "--name=small", "--device=emulator", *LIMITS]) as server,
    ):
        tally = attack_server(server, session, "small", range(250))
    assert tally.findings == []
    assert tally.counts.total() == 250
    assert tally.inferred > 0
    assert len({kind for kind, _ in tally.counts}) == len(KINDS)


def test_attacks_are_made_from_their_seeds() -> None:
    made = [make_attack(TARGET, seed) for seed in range(100)]
    assert made == [make_attack(TARGET, seed) for seed in range(100)]
    assert len(set(made)) > 80


HTTP = Attack("a", "http", "/", b"")
HOPELESS = Attack("a", "http", "/", b"", hopeless=True)
GRPC = Attack("a", "grpc", "/", b"")


@pytest.mark.parametrize(
    ("attack", "reply", "message"),
    [
        (HTTP, Reply("500", "Internal Server Error", False), "status 500"),
        (HTTP, Reply("closed", "RemoteDisconnected", False), "status closed"),
        (HTTP, Reply("400", '{"error": "a\\nb"}', False), "several lines"),
        (HTTP, Reply("400", '{"error": "%s"}' % ("a" * 601), False), "a long one"),
        (HOPELESS, Reply("200", "", True), "was accepted"),
        (GRPC, Reply("UNKNOWN", "Traceback", False), "status UNKNOWN"),
        (GRPC, Reply("INTERNAL", "", False), "status INTERNAL"),
        (GRPC, Reply("INVALID_ARGUMENT", "a\nb", False), "several lines"),
        (Attack("a", "raw", "", b""), Reply("hangs", "", False), "status hangs"),
    ],
)
def test_what_is_a_finding(attack: Attack, reply: Reply, message: str) -> None:
    assert message in (complaint(attack, reply) or "")


@pytest.mark.parametrize(
    ("attack", "reply"),
    [
        (HTTP, Reply("200", "", True)),
        (HTTP, Reply("400", '{"error": "the request is not JSON"}', False)),
        (GRPC, Reply("NOT_FOUND", "there is no model", False)),
        (Attack("a", "raw", "", b""), Reply("closed", "", False)),
    ],
)
def test_what_is_none(attack: Attack, reply: Reply) -> None:
    assert complaint(attack, reply) is None
