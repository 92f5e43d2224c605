"""Connections over HTTP that end if their client does nothing."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Connection"]


class Connection(H11Protocol):
    """Uvicorn's connection, which is closed when its client keeps it waiting.

    Uvicorn has a limit for the time between two requests alone. Here a client that sends half a
    request's headers, or nothing at all, or a byte now and then, or does not read its reply, loses
    the connection after one to two times `timeout_keep_alive`. A body that arrives slowly is the
    application's concern.
    """

    _look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to watch the client."""
        super().connection_made(transport)
        self._watch(None, 0)

    def connection_lost(self, exc: Exception | None) -> None:
        """Watch no longer."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def _watch(self, cycle: object, unsent: int) -> None:
        """Look again after a while, and remember what there was to see now."""
        after = self.config.timeout_keep_alive
        self._look = self.loop.call_later(after, self._looked, cycle, unsent)

    def _looked(self, cycle: object, was_unsent: int) -> None:
        """Close the connection if nothing has happened since the last look."""
        unsent = self.transport.get_write_buffer_size()
        waits = self.cycle is None or self.cycle.response_complete
        if self.cycle is not cycle or unsent != was_unsent or not (waits or unsent):
            self._watch(self.cycle, unsent)
        elif unsent:
            self.transport.abort()
        else:
            self.transport.close()
