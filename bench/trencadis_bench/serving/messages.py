"""Requests as the bytes that a client sends, and what their answers must end with."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from tritonclient.grpc import service_pb2

from trencadis_host import Session

__all__ = ["Message", "grpc_message", "http_message"]

pb: Any = service_pb2  # its classes are made when it is imported: checkers do not see them

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Message:
    """A request of one protocol.

    Attributes
    ----------
    body : bytes
        What is sent.
    json_length : int
        Length of the JSON at its beginning, over HTTP.
    answer : bytes
        The outputs of the session, with which the reply ends.
    """

    body: bytes
    json_length: int
    answer: bytes


def _named(session: Session, inputs: Array) -> tuple[str, str, bytes, bytes]:
    """Names of input and output, bytes of inputs and of the session's outputs."""
    name, result = session.get_inputs()[0].name, session.get_outputs()[0].name
    outputs = session.run(None, {name: inputs})[0]
    return name, result, inputs.astype("<f4").tobytes(), outputs.astype("<f4").tobytes()


def http_message(session: Session, inputs: Array) -> Message:
    """A request with binary tensors; `inputs` are float32."""
    name, result, raw, answer = _named(session, inputs)
    text = orjson.dumps(
        {
            "inputs": [
                {
                    "name": name,
                    "shape": inputs.shape,
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": len(raw)},
                }
            ],
            "outputs": [{"name": result, "parameters": {"binary_data": True}}],
        }
    )
    return Message(text + raw, len(text), answer)


def grpc_message(model: str, session: Session, inputs: Array) -> Message:
    """A request with raw tensors; `inputs` are float32."""
    name, _, raw, answer = _named(session, inputs)
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=[raw])
    request.inputs.add(name=name, datatype="FP32", shape=list(np.shape(inputs)))
    return Message(request.SerializeToString(), 0, answer)
