"""`make fuzz-serving`: hostile requests on a server; what is refused, what is not, what breaks."""

import json
import re
import secrets
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import click
from rich.console import Console
from rich.table import Table

from trencadis_bench.serving.attacks import make_attack
from trencadis_bench.serving.hostile import LIMITS, Attack, Target
from trencadis_bench.serving.messages import grpc_message, http_message
from trencadis_bench.serving.send import CLOSED, Sender, complaint
from trencadis_bench.serving.servers import Served, served
from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_format.command_line import reported
from trencadis_format.files import make_folder, write_atomically
from trencadis_host import Session

__all__ = ["Finding", "Tally", "attack_server", "main"]

MODEL = Path("examples/digits/digits.onnx")


@dataclass(frozen=True)
class Finding:
    """A reply that is none: the seed of the attack, its kind, and what is wrong."""

    seed: int
    kind: str
    detail: str


@dataclass
class Tally:
    """Attacks counted by kind and status, inferences among them, and findings."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    inferred: int = 0
    findings: list[Finding] = field(default_factory=list)


def attack_server(
    server: Served,
    session: Session,
    model: str,
    seeds: Iterable[int],
    report: Callable[[Finding], None] = lambda finding: None,
) -> Tally:
    """Attack a server, then look whether it answers as before, and what its device computed.

    A device may compute what was answered, and what came in bytes on a connection that was closed
    before the answer; nothing else.

    Parameters
    ----------
    server : Served
        A server with `LIMITS` that serves one model and is asked by nobody else.
    session : Session
        The same network, to compare with.
    model : str
        The model's name.
    seeds : iterable of int
        Numbers of the attacks.
    report : callable
        Called with every finding.
    """
    tally = Tally()

    def found(seed: int, kind: str, detail: str) -> None:
        tally.findings.append(Finding(seed, kind, detail))
        report(tally.findings[-1])

    node = session.get_inputs()[0]
    output = session.get_outputs()[0].name
    target = Target(model, node.name, output, tuple(int(size) for size in node.shape[1:]))
    sender = Sender(server)
    before = _computed(server)
    for seed in seeds:
        attack = make_attack(target, seed)
        reply = sender.send(attack)
        tally.counts[attack.kind, reply.status] += 1
        tally.inferred += reply.inferred
        if wrong := complaint(attack, reply):
            found(seed, attack.kind, wrong)
    computed = _computed(server) - before
    unseen = sum(count for (_, status), count in tally.counts.items() if status == CLOSED)
    if not tally.inferred <= computed <= tally.inferred + unseen:
        found(-1, "device", f"{computed} batches computed for {tally.inferred} answers")
    for good, answer in _good(session, target):
        reply = sender.send(good)
        if not reply.inferred or not answer(reply.text):
            found(-1, "afterwards", f"a right request is answered with {reply.status}")
    sender.close()
    for line in server.lines[1:]:
        found(-1, "standard error", line.strip())
    return tally


def _good(session: Session, target: Target) -> Iterable[tuple[Attack, Callable[[str], bool]]]:
    """Right requests over both protocols, and whether a reply's text is theirs."""
    path = f"/v2/models/{target.model}/infer"
    values = target.values(2)
    expected = session.run(None, {target.input: values})[0]
    text = json.dumps(target.message(2)).encode()

    def equal(reply: str) -> bool:
        return json.loads(reply)["outputs"][0]["data"] == expected.ravel().tolist()

    yield Attack("good", "http", path, text), equal
    message = http_message(session, values)
    header = ("Inference-Header-Content-Length", str(message.json_length))
    yield Attack("good", "http", path, message.body, headers=(header,)), lambda reply: True
    message = grpc_message(target.model, session, values)
    method = "/inference.GRPCInferenceService/ModelInfer"
    yield Attack("good", "grpc", method, message.body), lambda reply: True


def _computed(server: Served) -> int:
    """Batches that the server's device has computed."""
    with urlopen(f"http://{server.http}/metrics", timeout=20) as reply:
        text = reply.read().decode()
    found = re.search(r"^trencadis_batch_samples_count\{.*\} (\S+)$", text, re.MULTILINE)
    return 0 if found is None else int(float(found[1]))


def _table(tally: Tally) -> Table:
    shown = Table(title=f"{tally.counts.total():,} requests", title_justify="left")
    for heading in ("kind", "requests", "answered with"):
        shown.add_column(heading, justify="right" if heading == "requests" else "left")
    for kind in sorted({kind for kind, _ in tally.counts}):
        counts = {s: n for (k, s), n in sorted(tally.counts.items()) if k == kind}
        detail = ", ".join(f"{status} {count:,}" for status, count in counts.items())
        shown.add_row(kind, f"{sum(counts.values()):,}", detail)
    return shown


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--requests", default=20_000, show_default=True, help="How many.")
@click.option("--seed", type=int, help="First seed; random if it is left out.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Counts and findings as JSON."
)
def main(requests: int, seed: int | None, output: Path | None) -> None:
    """Send hostile requests to a server of its own; every finding is printed with its seed.

    The exit status is 1 if there are any.
    """
    console = Console(highlight=False, soft_wrap=True)
    first = secrets.randbelow(1 << 31) if seed is None else seed
    console.print(f"first seed {first}")

    def report(finding: Finding) -> None:
        console.print(f"seed {finding.seed}, {finding.kind}: {finding.detail}", markup=False)

    with reported("fuzz-serving"), tempfile.TemporaryDirectory() as folder:
        if output is not None:
            make_folder(output.parent)
        image = Path(folder) / "digits.tcd"
        compile_model(MODEL, load_board("sim")).save(image)
        with (
            Session(image, "emulator") as session,
            served([image, "--device=emulator", *LIMITS]) as server,
        ):
            seeds = range(first, first + requests)
            tally = attack_server(server, session, image.stem, seeds, report)
    console.print(_table(tally))
    if output is not None:
        results = {
            "first_seed": first,
            "requests": tally.counts.total(),
            "inferred": tally.inferred,
            "counts": {
                f"{kind}: {status}": n for (kind, status), n in sorted(tally.counts.items())
            },
            "findings": [vars(finding) for finding in tally.findings],
        }
        write_atomically(output, json.dumps(results, indent=1).encode())
    if tally.findings:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
