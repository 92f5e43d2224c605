"""Hostile requests by number: the same seed makes the same request."""

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from trencadis_bench.serving.grpc_attacks import GRPC_KINDS
from trencadis_bench.serving.hostile import (
    MAX_BODY_BYTES,
    MAX_SAMPLES,
    Attack,
    Target,
    damaged,
    hostile_value,
)

__all__ = ["KINDS", "make_attack"]

LENGTH = "Inference-Header-Content-Length"

JSON_TYPE = ("Content-Type", "application/json")


def _infer(target: Target) -> str:
    return f"/v2/models/{target.model}/infer"


def _post(
    kind: str, path: str, body: bytes, *headers: tuple[str, str], hopeless: bool = False
) -> Attack:
    return Attack(kind, "http", path, body, "POST", headers, hopeless)


def _places(node: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Every place of a tree of lists and objects: the container, and the key or index."""
    keys = list(node) if isinstance(node, dict) else list(range(min(len(node), 5)))
    for key in keys:
        found.append((node, key))
        if isinstance(node[key], (dict, list)):
            _places(node[key], found)
    return found


def _edited(message: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A message with one to three changes of its structure."""
    for _ in range(rng.randint(1, 3)):
        places = _places(message, [])
        if not places:
            break
        node, key = rng.choice(places)
        change = rng.randrange(5)
        if change == 0:
            del node[key]
        elif change == 1 and isinstance(node, list):
            node.insert(key, node[key])
        elif change == 2 and isinstance(node, dict):
            node[rng.choice(["", "name", "data", "shape", "x" * 300])] = node.pop(key)
        elif change == 3:
            node[key] = [node[key]]
        else:
            node[key] = hostile_value(rng)
    return message


def _json_structure(target: Target, rng: random.Random) -> Attack:
    body = json.dumps(_edited(target.message(rng.randint(1, 3)), rng)).encode()
    return _post("JSON, structure", _infer(target), body, JSON_TYPE)


def _json_bytes(target: Target, rng: random.Random) -> Attack:
    body = damaged(json.dumps(target.message(1)).encode(), rng)
    return _post("JSON, bytes", _infer(target), body, JSON_TYPE)


def _nested(target: Target, rng: random.Random) -> Attack:
    depth = rng.choice([10, 100, 1000, 10_000, 200_000])
    opening, closing = rng.choice([(b"[", b"]"), (b'{"a":', b"}")])
    nest = opening * depth + b"1" + closing * depth
    inside = b'{"inputs": [{"name": "%b", "datatype": "FP32", "shape": [1], "data": %b}]}'
    body = rng.choice([nest, opening * depth, inside % (target.input.encode(), nest)])
    return _post("nesting", _infer(target), body, JSON_TYPE, hopeless=True)


def _binary_lengths(target: Target, rng: random.Random) -> Attack:
    text, raw = target.binary(rng.randint(1, 3))
    right = len(text)
    near = str(right + rng.choice([-2, -1, 1, 2, 1000]))
    others = (near, str(right + len(raw)), str(1 << 63), "9" * 400, f" {right} x")
    length = rng.choice([*others, "-1", "", "0", "1e3", "0x10", "nan"])
    return _post("binary, JSON length", _infer(target), text + raw, (LENGTH, length), hopeless=True)


def _binary_sizes(target: Target, rng: random.Random) -> Attack:
    text, raw = target.binary(rng.randint(1, 3))
    message = json.loads(text)
    if rng.random() < 0.5:
        sizes = [0, -1, 1, 1 << 31, 1 << 64, 1.5, True, "4", None, [4], len(raw) + 1, len(raw) - 1]
        message["inputs"][0]["parameters"]["binary_data_size"] = rng.choice(sizes)
    else:
        raw = rng.choice([raw[:-1], raw + b"\0", b"", raw * 2, raw[: len(raw) // 2]])
    text = json.dumps(message).encode()
    header = (LENGTH, str(len(text)))
    return _post("binary, tensor sizes", _infer(target), text + raw, header, hopeless=True)


def _binary_json(target: Target, rng: random.Random) -> Attack:
    text, raw = target.binary(1)
    text = json.dumps(_edited(json.loads(text), rng)).encode()
    return _post("binary, JSON", _infer(target), text + raw, (LENGTH, str(len(text))))


def _not_finite(target: Target, rng: random.Random) -> Attack:
    samples = rng.randint(1, 3)
    bad = rng.choice([np.nan, np.inf, -np.inf, 1e39])
    if rng.random() < 0.5:
        values = target.values(samples)
        with np.errstate(over="ignore"):
            values.reshape(-1)[rng.randrange(values.size)] = np.float64(bad).astype(np.float32)
        text, _ = target.binary(samples)
        body, headers = text + values.tobytes(), [(LENGTH, str(len(text)))]
    else:
        message = target.message(samples)
        message["inputs"][0]["data"][rng.randrange(samples)] = bad
        body, headers = json.dumps(message).encode(), [JSON_TYPE]
    return _post("not finite", _infer(target), body, *headers, hopeless=True)


def _shapes(target: Target, rng: random.Random) -> Attack:
    message = target.message(1)
    right = [1, *target.shape]
    shape: Any = rng.choice(
        [
            [0, *target.shape],
            [-1, *target.shape],
            [1 << 40, *target.shape],
            [1 << 63, 1 << 63],
            [*right, 1],
            right[:-1],
            [*right[::-1], 2],
            [],
            [1] * 33,
            [1.0 * size + 0.5 for size in right],
            [str(size) for size in right],
            {"0": 1},
            "1,2",
            None,
            [0] * 32,
            [rng.randint(-5, 5) * 7 for _ in right],
        ]
    )
    message["inputs"][0]["shape"] = shape
    if rng.random() < 0.3:
        message["inputs"][0]["data"] = []
    return _post("shapes", _infer(target), json.dumps(message).encode(), JSON_TYPE, hopeless=True)


def _costly(target: Target, rng: random.Random) -> Attack:
    """Small to send and, to a careless server, large to hold or to answer."""
    message = target.message(1)
    entry = message["inputs"][0]
    repeated = rng.choice([2, 1000, 20_000])
    change = rng.randrange(4)
    if change == 0:
        entry["data"] = ["A" * 300_000, *["b"] * 50_000]
    elif change == 1:
        message["outputs"] = [{"name": target.output}] * repeated
    elif change == 2:
        message["inputs"] += [{**entry, "name": str(i)} for i in range(min(repeated, 1000))]
        entry["data"] = []
    else:
        entry["data"] = [[]] * 200_000
    return _post("costly", _infer(target), json.dumps(message).encode(), JSON_TYPE, hopeless=True)


def _content_types(target: Target, rng: random.Random) -> Attack:
    kinds = ["text/plain", "application/xml", "multipart/form-data; boundary=x", "", "a/b;;;="]
    kinds += ["application/json; charset=utf-16", "application/octet-stream", "é/x"]
    headers = [("Content-Type", rng.choice(kinds))]
    if rng.random() < 0.5:
        headers.append(("Content-Encoding", rng.choice(["gzip", "br", "zstd", "x" * 100])))
    if rng.random() < 0.3:
        headers.append(("Expect", "200-maybe"))
    body = json.dumps(target.message(1)).encode()
    if rng.random() < 0.3:
        body = body.decode().encode("utf-16")
    return _post("content types", _infer(target), body, *headers)


def _names(target: Target, rng: random.Random) -> Attack:
    near = (f"{target.model}%0a", target.model.upper() + "x")
    escaped = ("%2e%2e", "%2Fetc%2Fpasswd", "%00", "%ff%fe", "%E2%80%AE", "%")
    name = rng.choice(["none", "..", "*", "a" * 3000, "';%20DROP%20TABLE", *near, *escaped])
    version = rng.choice(["2", "0", "-1", "1.0", "9" * 50, "latest", "%2e", "1%00"])
    path = rng.choice(
        [
            f"/v2/models/{name}/infer",
            f"/v2/models/{target.model}/versions/{version}/infer",
            f"/v2/repository/models/{name}/load",
            f"/v2/repository/models/{name}/unload",
            f"/v2/models/{name}/versions/{version}/infer",
            f"/v1/models/{name}:predict",
            f"/{name}",
        ]
    )
    body = json.dumps(target.message(1)).encode()
    return _post("names, versions", path, body, JSON_TYPE, hopeless=True)


def _methods(target: Target, rng: random.Random) -> Attack:
    method = rng.choice(["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD", "GET", "XYZ"])
    return Attack("methods", "http", _infer(target), b"", method, (), True)


def _repository(target: Target, rng: random.Random) -> Attack:
    body = rng.choice(
        [
            b"[",
            b"[]",
            b'"x"',
            b"\xff",
            b'{"parameters": {"config": "{}"}}',
            b'{"parameters": {"file:1/model.tcd": "AAAA"}}',
            b'{"parameters": [1]}',
        ]
    )
    path = rng.choice([f"/v2/repository/models/{target.model}/load", "/v2/repository/index"])
    return _post("repository", path, body, JSON_TYPE, hopeless=not path.endswith("index"))


def _over_limits(target: Target, rng: random.Random) -> Attack:
    """More bytes, or more samples, than the server takes."""
    if rng.random() < 0.2:
        body = rng.choice([b" ", b"[", b"\0", b'{"a":1}']) * (MAX_BODY_BYTES + 1)
        return _post("over the limits", _infer(target), body[: MAX_BODY_BYTES + 1], hopeless=True)
    text, raw = target.binary(MAX_SAMPLES + rng.randint(1, 3))
    header = (LENGTH, str(len(text)))
    return _post("over the limits", _infer(target), text + raw, header, hopeless=True)


def _raw_http(target: Target, rng: random.Random) -> Attack:
    """Bytes on a connection: what no HTTP library sends."""
    body = json.dumps(target.message(1)).encode()
    head = f"POST {_infer(target)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode()
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    sent = rng.choice(
        [
            head + length + body[: rng.randrange(len(body))],
            head + b"Content-Length: %d\r\n\r\n" % (1 << 60) + body,
            head + b"Content-Length: -1\r\n\r\n" + body,
            head + b"Content-Length: abc\r\n\r\n" + body,
            head + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + body,
            head + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" + body,
            head + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
            head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + body,
            head + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
            head + b"A: b\r\n" * 5000 + b"\r\n",
            head[: rng.randrange(1, len(head))],
            damaged(head + length, rng) + body,
            bytes(rng.randrange(256) for _ in range(rng.randint(1, 400))),
            b"GET / HTTP/9.9\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
        ]
    )
    return Attack("HTTP itself", "raw", "", sent)


KINDS: tuple[Callable[[Target, random.Random], Attack], ...] = (
    _json_structure,
    _json_bytes,
    _nested,
    _binary_lengths,
    _binary_sizes,
    _binary_json,
    _not_finite,
    _shapes,
    _costly,
    _content_types,
    _names,
    _methods,
    _repository,
    _over_limits,
    _raw_http,
    *GRPC_KINDS,
)
"""Makers of attacks; each is as likely as another."""


def make_attack(target: Target, seed: int) -> Attack:
    """The attack of a number."""
    rng = random.Random(seed)
    return rng.choice(KINDS)(target, rng)
