"""Replicas of a model on several machines, by Ray Serve.

A replica is one `ServedModel`: one process with one queue and its devices. Ray places replicas
where their resources are (a custom resource per card), restarts those that die and adds some when
queues grow. Requests are those of the Open Inference Protocol over HTTP.
"""

from pathlib import Path
from typing import Any

import orjson
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from trencadis_serve.decode import JSON_LENGTH, decode_body, encode_reply
from trencadis_serve.describe import describe_model
from trencadis_serve.errors import RequestError, TooLargeError
from trencadis_serve.limits import Limits
from trencadis_serve.model import ModelSpec, ServedModel

__all__ = ["CARD", "Replica", "model_application"]

CARD = "trencadis_card"
"""Custom resource of a machine with cards: `ray start --resources '{"trencadis_card": 2}'`."""


class Replica:
    """One replica: answers `.../infer`, `.../ready` and metadata.

    Parameters
    ----------
    path : str
        The compiled network, the same on every machine.
    name : str
        Name of the model.
    device : str
        Device of this replica.
    limits : Limits
        Limits of requests and batches.
    """

    def __init__(self, path: str, name: str, device: str, limits: Limits) -> None:
        self._limits = limits
        self._model = ServedModel(ModelSpec(name, "1", Path(path), (device,)), limits)

    async def __call__(self, request: Request) -> Response:
        """Answer a request; errors are the protocol's."""
        try:
            return await self._answer(request)
        except RequestError as error:
            return _json({"error": str(error)}, error.http)

    async def _answer(self, request: Request) -> Response:
        if request.method == "GET":
            if request.url.path.endswith("/ready"):
                ready = self._model.ready
                return _json({"name": self._model.spec.name, "ready": ready}, 200 if ready else 503)
            return _json(describe_model(self._model, [self._model.spec.version]))
        body = await request.body()
        if len(body) > self._limits.request_bytes:
            raise TooLargeError(f"a request may have {self._limits.request_bytes} bytes")
        call = decode_body(body, request.headers.get(JSON_LENGTH))
        places = self._model.chosen(call.outputs)
        reply, json_length = encode_reply(
            self._model, call, places, await self._model.infer(call.feed)
        )
        headers = {} if json_length is None else {JSON_LENGTH: str(json_length)}
        return Response(reply, headers=headers, media_type="application/octet-stream")

    async def check_health(self) -> None:
        """Tell Ray that the replica is to be replaced.

        Raises
        ------
        UnavailableError
            If its device is lost.
        """
        self._model.check_ready()


def model_application(
    path: str | Path,
    *,
    name: str | None = None,
    device: str = "auto",
    replicas: int | tuple[int, int] = 1,
    cards: float = 0,
    waiting: float = 32,
    limits: Limits | None = None,
) -> Any:
    """An application for `ray.serve.run`.

    Parameters
    ----------
    path : path
        The compiled network, the same on every machine.
    name : str, optional
        Name of the model.  [default: the file's stem]
    device : str
        Device of every replica.
    replicas : int or (least, most)
        How many; between two numbers, Ray adds replicas while requests queue, and ends idle ones.
    cards : float
        Amount of the custom resource `trencadis_card` for every replica.
    waiting : float
        Requests that a replica computes and has waiting, beyond which Ray adds another replica.
    limits : Limits, optional
        Limits of requests and batches.
    """
    path = Path(path).resolve()
    limits = limits or Limits()
    options: dict[str, Any] = {
        "name": name or path.stem,
        "max_ongoing_requests": limits.queue,
        "ray_actor_options": {"num_cpus": 1, "resources": {CARD: cards} if cards else {}},
    }
    if isinstance(replicas, tuple):
        least, most = replicas
        options["autoscaling_config"] = {
            "min_replicas": least,
            "max_replicas": most,
            "target_ongoing_requests": waiting,
        }
    else:
        options["num_replicas"] = replicas
    deployment = serve.deployment(**options)(Replica)
    return deployment.bind(str(path), options["name"], device, limits)


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
