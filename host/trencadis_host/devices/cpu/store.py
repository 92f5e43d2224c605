"""Machine code that was compiled once, kept in a folder of the user's.

What is kept is an object file: data that the linker reads, nothing that is unpickled or imported.
Its name holds a digest of the source, of the path and of LLVM's version, so that another processor,
version or network has another name.
"""

from collections.abc import Callable
from pathlib import Path

from trencadis_format.user_cache import Cache, CacheError, default_folder, open_cache

__all__ = ["CodeStore", "KeptCode", "UnkeptCode", "open_store"]

FILE = "code.o"


class CodeStore:
    """Gives machine code by name; what is missing is compiled."""

    def code(self, name: str, compile_code: Callable[[], bytes]) -> bytes:
        """The code of a name.

        Parameters
        ----------
        name : str
            With a digest of all that the code is made from.
        compile_code : callable
            Makes it.
        """
        raise NotImplementedError


class UnkeptCode(CodeStore):
    """Keeps nothing."""

    def code(self, name: str, compile_code: Callable[[], bytes]) -> bytes:
        """Compile."""
        return compile_code()


class KeptCode(CodeStore):
    """Code in a folder.

    Parameters
    ----------
    cache : Cache
        The folder, which was found safe.
    report : callable
        Told, once, why nothing is kept.
    """

    def __init__(self, cache: Cache, report: Callable[[str], None]) -> None:
        self._cache, self._report = cache, report

    def code(self, name: str, compile_code: Callable[[], bytes]) -> bytes:
        """Kept code; what is damaged is compiled again, a folder that keeps nothing is not used."""
        made: list[bytes] = []

        def build(folder: Path) -> None:
            made.append(compile_code())
            (folder / FILE).write_bytes(made[0])

        try:
            return (self._cache.kept(name, [FILE], build) / FILE).read_bytes()
        except (CacheError, OSError) as error:
            self._report(f"kernels are not kept: {error}")
            return made[0] if made else compile_code()


def open_store(folder: Path | None, report: Callable[[str], None]) -> CodeStore:
    """Code in a folder; where it cannot be used safely, nothing is kept.

    Parameters
    ----------
    folder : Path or None
        None for the user's cache.
    report : callable
        Told why nothing is kept.
    """
    try:
        return KeptCode(open_cache(folder or default_folder("cpu"), report), report)
    except CacheError as error:
        report(f"kernels are not kept: {error}")
        return UnkeptCode()
