"""Memory that all requests together may hold."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from trencadis_serve.errors import BusyError

__all__ = ["Budget"]


class Budget:
    """Bytes of the requests that are under way. For one thread.

    Parameters
    ----------
    most : int
        Bytes that requests may have in all.
    """

    def __init__(self, most: int) -> None:
        self._most, self._held = most, 0

    @property
    def held(self) -> int:
        """Bytes that are held."""
        return self._held

    @contextmanager
    def request(self) -> Iterator[Callable[[int], None]]:
        """Hold what a request has, until its end; what is yielded takes so many bytes more.

        Raises
        ------
        BusyError
            From taking, if all requests would have too many.
        """
        own = 0

        def take(count: int) -> None:
            nonlocal own
            if self._held + count > self._most:
                raise BusyError(
                    f"requests under way have {self._held} bytes, near the {self._most} that they "
                    "may have; try again later"
                )
            self._held += count
            own += count

        try:
            yield take
        finally:
            self._held -= own
