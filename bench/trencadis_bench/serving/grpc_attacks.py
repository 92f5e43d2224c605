"""Hostile requests over gRPC."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2

from trencadis_bench.serving.hostile import MAX_BODY_BYTES, MAX_SAMPLES, Attack, Target, damaged

__all__ = ["GRPC_KINDS", "SERVICE"]

SERVICE = "/inference.GRPCInferenceService/"

pb: Any = service_pb2  # its classes are made when it is imported: checkers do not see them

METHODS = (
    "ServerLive",
    "ServerReady",
    "ServerMetadata",
    "ModelReady",
    "ModelMetadata",
    "ModelConfig",
    "ModelInfer",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
)

TEXTS = ("", "none", "\0", "line\nbreak", "A" * 5000, "../../etc/passwd", "2", "\u202e", "%s{}")
TYPES = ("", "FP64", "FP16", "BF16", "BYTES", "INT8", "UINT64", "BOOL", "fp32", "A" * 500)
SIZES = (0, -1, 1, 3, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63))
FIELDS = ("bool_contents", "int_contents", "int64_contents", "uint_contents", "fp64_contents")


def _request(target: Target, samples: int, *, raw: bool) -> Any:
    values = target.values(samples)
    request = pb.ModelInferRequest(model_name=target.model)
    entry = request.inputs.add(name=target.input, datatype="FP32", shape=[samples, *target.shape])
    if raw:
        request.raw_input_contents.append(values.tobytes())
    else:
        entry.contents.fp32_contents.extend(values.ravel().tolist())
    return request


def _bytes(target: Target, rng: random.Random) -> Attack:
    """A message whose bytes are damaged, to any method."""
    body = damaged(_request(target, 1, raw=rng.random() < 0.5).SerializeToString(), rng)
    if rng.random() < 0.2:
        body = bytes(rng.randrange(256) for _ in range(rng.randint(0, 300)))
    methods = [name for name in METHODS if not name.startswith("RepositoryModel")]
    method = rng.choice(["ModelInfer", rng.choice(methods)])
    return Attack("gRPC, bytes", "grpc", SERVICE + method, body)


def _fields(target: Target, rng: random.Random) -> Attack:
    """A message of which one to three fields are wrong."""
    request = _request(target, rng.randint(1, 3), raw=rng.random() < 0.5)
    for _ in range(rng.randint(1, 3)):
        entry = request.inputs[0]
        change = rng.randrange(9)
        if change == 0:
            request.model_name = rng.choice(TEXTS)
        elif change == 1:
            request.model_version = rng.choice(TEXTS)
        elif change == 2:
            entry.name = rng.choice(TEXTS)
        elif change == 3:
            entry.datatype = rng.choice(TYPES)
        elif change == 4:
            request.outputs.add(name=rng.choice(TEXTS))
        elif change == 5:
            request.inputs.add().CopyFrom(entry)
        elif change == 6:
            request.raw_input_contents.append(bytes(rng.randrange(9)))
        elif change == 7:
            getattr(entry.contents, rng.choice(FIELDS)).extend([1, 0])
        else:
            request.parameters["sequence_id"].int64_param = rng.choice(SIZES)
    return Attack("gRPC, fields", "grpc", SERVICE + "ModelInfer", request.SerializeToString())


def _shapes(target: Target, rng: random.Random) -> Attack:
    request = _request(target, 1, raw=rng.random() < 0.5)
    right = list(request.inputs[0].shape)
    longer = [rng.choice(SIZES), *right[1:], 7]
    absurd = [rng.choice(SIZES[3:]) for _ in right]
    shape = rng.choice(
        [[], [0, *right[1:]], [-1, *right[1:]], right[:-1], longer, absurd, [1] * 33]
    )
    del request.inputs[0].shape[:]
    request.inputs[0].shape.extend(shape)
    body = request.SerializeToString()
    return Attack("gRPC, shapes", "grpc", SERVICE + "ModelInfer", body, hopeless=True)


def _raw_contents(target: Target, rng: random.Random) -> Attack:
    """Tensors of a wrong size or number, or numbers that are not finite."""
    request = _request(target, 1, raw=True)
    raw = request.raw_input_contents[0]
    bad = np.frombuffer(raw, np.float32).copy()
    bad[rng.randrange(bad.size)] = rng.choice([np.nan, np.inf, -np.inf])
    contents = rng.choice(
        [[b""], [raw[:-1]], [raw + b"\0"], [raw, raw], [raw * 2], [bad.tobytes()], [raw[:4], b""]]
    )
    del request.raw_input_contents[:]
    request.raw_input_contents.extend(contents)
    body = request.SerializeToString()
    return Attack("gRPC, tensors", "grpc", SERVICE + "ModelInfer", body, hopeless=True)


def _over_limits(target: Target, rng: random.Random) -> Attack:
    """More samples, or more bytes, than the server takes."""
    if rng.random() < 0.2:
        body = bytes(MAX_BODY_BYTES + 1)
    else:
        samples = MAX_SAMPLES + rng.randint(1, 3)
        body = _request(target, samples, raw=rng.random() < 0.5).SerializeToString()
    return Attack("gRPC, over the limits", "grpc", SERVICE + "ModelInfer", body, hopeless=True)


def _methods(target: Target, rng: random.Random) -> Attack:
    """Methods that are none, and models that are none."""
    name = rng.choice(TEXTS[1:])
    load = pb.RepositoryModelLoadRequest(model_name=rng.choice([target.model, name]))
    load.parameters["config"].string_param = "{}"
    path, body = rng.choice(
        [
            ("/x/y", b""),
            (SERVICE + "None", b"a"),
            (SERVICE + "ModelStatistics", b""),
            (SERVICE + "TraceSetting", b""),
            (SERVICE + "SystemSharedMemoryRegister", b""),
            (SERVICE + "ModelMetadata", pb.ModelMetadataRequest(name=name).SerializeToString()),
            (SERVICE + "ModelReady", pb.ModelReadyRequest(name=name).SerializeToString()),
            (SERVICE + "ModelConfig", pb.ModelConfigRequest(name=name).SerializeToString()),
            (SERVICE + "RepositoryModelLoad", load.SerializeToString()),
            (
                SERVICE + "RepositoryModelUnload",
                pb.RepositoryModelUnloadRequest(model_name=name).SerializeToString(),
            ),
        ]
    )
    return Attack("gRPC, methods, names", "grpc", path, body, hopeless=True)


GRPC_KINDS: tuple[Callable[[Target, random.Random], Attack], ...] = (
    _bytes,
    _fields,
    _shapes,
    _raw_contents,
    _over_limits,
    _methods,
)
