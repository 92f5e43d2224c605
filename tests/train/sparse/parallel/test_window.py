import threading
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from trencadis_train.sparse.parallel.window import KIND, LostWindowError, Offer, Window
from trencadis_train.sparse.parallel.wire import Kind, Pair, accept, open_store

pytestmark = pytest.mark.skipif(KIND is None, reason="sockets of this system have no messages")

ROOM = 1024


def both_sides() -> tuple[Pair, Pair]:
    """A server's and a worker's side, without a window yet."""
    store = open_store("127.0.0.1:0", server=True, timeout_s=60)
    found: dict[bool, Pair] = {}

    def join(server: bool) -> None:
        own = store if server else open_store(f"127.0.0.1:{store.port}", server=False, timeout_s=60)
        found[server] = accept(own, 1, server=server, host="127.0.0.1", timeout_s=60)

    in_parallel(lambda: join(True), lambda: join(False))
    return found[True], found[False]


def in_parallel(*calls: Any) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()


def test_arrays_go_through_the_window_and_what_has_no_room_over_gloo() -> None:
    server, worker = both_sides()
    in_parallel(
        lambda: server.offer_window(ROOM, 60),
        lambda: worker.take_window(worker.hear()[1], 60),
    )
    assert server.window is not None
    assert worker.window is not None
    sent: list[Any] = [np.arange(5), np.arange(10.0), np.arange(1000), np.ones((2, 2), np.float32)]
    for source, target in ((server, worker), (worker, server), (server, worker)):
        got: list[Any] = []

        def receive(target: Pair = target, got: list[Any] = got) -> None:
            got.append(target.hear())
            got.extend(target.receive(array.size, array.dtype) for array in sent)

        in_parallel(receive, lambda: source.tell(Kind.LAYERS, 7, arrays=sent))  # noqa: B023
        assert got[0][:2] == [Kind.LAYERS, 7]
        for array, copy in zip(sent, got[1:], strict=True):
            assert np.array_equal(array.reshape(-1), copy)
    shared = server.window.out[: sent[0].nbytes].view(np.int64)
    assert np.array_equal(shared, sent[0])  # by memory, not over gloo
    server.close()
    worker.close()


def test_who_is_on_another_machine_goes_on_over_gloo() -> None:
    server, worker = both_sides()
    in_parallel(
        lambda: server.offer_window(ROOM, 60),
        lambda: worker.take_window(worker.hear()[1] ^ 2, 60),  # a number that nobody offers
    )
    assert server.window is None
    assert worker.window is None


def test_the_end_of_the_other_side_is_noticed() -> None:
    offer = Offer(ROOM, 60)
    bell = Window.reach(offer.number, 60)
    assert bell is not None
    window = offer.accept()
    assert window is not None
    assert Window.of(bell) is not None
    bell.close()
    with pytest.raises(LostWindowError, match="the other process"):
        window.hear(48)
    with pytest.raises(LostWindowError, match="the other process is gone"):
        window.tell(b"x" * 48)
    window.close()
