import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("starlette", reason="serving is not installed: make test-serve")
pytest.importorskip("tritonclient.grpc", reason="serving is not installed: make test-serve")

from trencadis_serve.endpoints import Endpoints
from trencadis_serve.limits import Limits
from trencadis_serve.model import ModelSpec
from trencadis_serve.server import Running, serve

Serving = Callable[..., Any]


@contextmanager
def serving(specs: Sequence[ModelSpec], limits: Limits | None = None) -> Iterator[Running]:
    """A server in a thread, on free ports."""
    found: list[Running] = []
    errors: list[BaseException] = []
    up = threading.Event()

    def started(running: Running) -> None:
        found.append(running)
        up.set()

    def run() -> None:
        try:
            serve(specs, limits or Limits(), Endpoints(port=0, grpc_port=0), started=started)
        except BaseException as error:
            errors.append(error)
        finally:
            up.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert up.wait(300)
    try:
        if errors:
            raise errors[0]
        yield found[0]
    finally:
        if found:
            found[0].stop()
        thread.join(300)
        assert not thread.is_alive(), "the server did not end"


@pytest.fixture(name="serving")
def serving_fixture() -> Serving:
    """Serves models; see `serving`."""
    return serving


@pytest.fixture
def spec(compiled: Callable[..., Any]) -> ModelSpec:
    """The small network on the emulator."""
    return ModelSpec("small", "1", compiled()[1], ("emulator",))
