"""The user's cache: a folder of things built once that nobody else can write to.

Programs and libraries that are kept here are run later. The folder therefore belongs to the caller,
is open to nobody else, and holds no links; otherwise it is refused. A digest beside each file tells
damage, such as that of a power failure; against others it would prove nothing.

An entry is a folder with files and their list. It is made under a lock, so that of several
processes that need it one builds and the others wait, in a folder of its own that is renamed when
it is complete and on the disk.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import pwd
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trencadis_format.errors import UserError
from trencadis_format.files import sync_folder

__all__ = ["Cache", "CacheError", "default_folder", "kept_file", "open_cache", "user_folder"]

CONTENTS = "contents.json"
"""Sizes and digests of an entry's files; written last."""

BUILDING = ".building-"
LOCK = ".lock"

UNUSED_S = 90 * 24 * 3600
"""Seconds without use after which an entry is removed."""

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}")


class CacheError(UserError):
    """A folder cannot keep what is built. One line: folder, rule, value, remedy."""


def user_folder(environment: Mapping[str, str]) -> Path:
    """Folder of a user's builds: `trencadis` in `$XDG_CACHE_HOME`, or in `~/.cache`.

    Parameters
    ----------
    environment : mapping of str to str
        Environment of the process. A path that is not absolute is ignored, as the XDG Base
        Directory Specification demands: nothing is loaded from the current folder.

    Raises
    ------
    CacheError
        If the user has no home.
    """
    named = environment.get("XDG_CACHE_HOME", "")
    if os.path.isabs(named):
        return Path(named, "trencadis")
    home = environment.get("HOME", "")
    if not os.path.isabs(home):
        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            raise CacheError(
                f"user {os.getuid()} has no home to keep builds in; set XDG_CACHE_HOME to a folder"
            ) from None
    return Path(home, ".cache", "trencadis")


def default_folder(part: str) -> Path:
    """Folder of the builds of a part of the project if the caller names none.

    This is one of the two places below the command line that read the environment: `Session` is
    also called by programs that know nothing of caches.

    Raises
    ------
    CacheError
        If the user has no home.
    """
    return user_folder(os.environ) / part


def open_cache(folder: Path, report: Callable[[str], None] = lambda text: None) -> "Cache":
    """Open a folder for builds; it is made if it is not there.

    Parameters
    ----------
    folder : Path
        Folder of the user (`user_folder`), or named by the caller: both are checked.
    report : callable
        Told what takes time.

    Raises
    ------
    CacheError
        If it cannot be made, does not belong to the caller, or is open to others.
    """
    folder = Path(os.path.abspath(folder))
    try:
        if not os.path.lexists(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):  # made by another process meanwhile
                folder.mkdir(mode=0o700)
        _check_folder(folder)
    except OSError as error:
        raise _refusal(folder, error) from error
    return Cache(folder, report)


def kept_file(folder: Path, name: str) -> Path:
    """A file that was put into a folder of the user's; neither need be there.

    Raises
    ------
    CacheError
        If the folder, or the file, is a link, of another user, or the folder open to others.
    """
    path = Path(os.path.abspath(folder)) / name
    try:
        if os.path.lexists(path.parent):
            _check_folder(path.parent)
            if os.path.lexists(path):
                _check_owned(path, stat.S_ISREG)
    except OSError as error:
        raise _refusal(path.parent, error) from error
    return path


@dataclass(frozen=True)
class Cache:
    """A folder of builds that was found safe; `open_cache` makes one.

    Attributes
    ----------
    folder : Path
        Absolute.
    report : callable
        Told what takes time.
    """

    folder: Path
    report: Callable[[str], None] = lambda text: None

    def kept(self, name: str, files: Sequence[str], build: Callable[[Path], None]) -> Path:
        """Return the folder of an entry, built unless it is there and undamaged.

        Parameters
        ----------
        name : str
            Name of the entry: letters, digits, `_`, `-`, `.`; with a digest of all that it is made
            from.
        files : sequence of str
            Names of its files.
        build : callable
            Makes these files in the empty folder that it is given; whatever else it leaves there is
            removed. Only one process calls it at a time.

        Raises
        ------
        CacheError
            If the entry holds what it must not hold, or cannot be written. What `build` raises
            passes through.
        """
        if not NAME.fullmatch(name) or name.endswith(LOCK):
            raise ValueError(f"{name!r} is no name of an entry")
        entry = self.folder / name
        if self._is_good(entry, files):
            return entry
        with self._lock(name):
            if self._is_good(entry, files):  # another process has built it meanwhile
                return entry
            self._clean(name)
            work = self.folder / f"{BUILDING}{name}"
            with self._refusing():
                _remove(work)
                work.mkdir(mode=0o700)
            try:
                made = work / "work"
                with self._refusing():
                    made.mkdir(mode=0o700)
                build(made)
                with self._refusing():
                    self._publish(work, entry, files)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return entry

    def _publish(self, work: Path, entry: Path, files: Sequence[str]) -> None:
        """Put an entry's files on the disk, then their list, then the entry under its name."""
        complete = work / "entry"
        complete.mkdir(mode=0o700)
        contents: dict[str, tuple[int, str]] = {}
        for name in files:
            os.replace(work / "work" / name, complete / name)
            contents[name] = _measure(complete / name)
            _sync(complete / name)
        (complete / CONTENTS).write_text(json.dumps(contents, indent=1) + "\n")
        _sync(complete / CONTENTS)
        sync_folder(complete)
        _remove(entry)
        os.replace(complete, entry)
        sync_folder(self.folder)

    def _is_good(self, entry: Path, files: Sequence[str]) -> bool:
        """Tell whether an entry is there, complete and undamaged; it is marked as used.

        Raises
        ------
        CacheError
            If it is, or holds, a link or what belongs to another user.
        """
        try:
            _check_folder(self.folder)
            if not os.path.lexists(entry):
                return False
            _check_owned(entry, stat.S_ISDIR)
            names = sorted(path.name for path in entry.iterdir())
            for name in names:
                _check_owned(entry / name, stat.S_ISREG)
            if names != sorted([*files, CONTENTS]):
                return False
            contents = _contents(entry / CONTENTS)
            if contents != {name: _measure(entry / name) for name in files}:
                return False
            os.utime(entry)
        except FileNotFoundError:  # another process replaces it
            return False
        except OSError as error:
            raise _refusal(self.folder, error) from error
        return True

    @contextlib.contextmanager
    def _lock(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold the lock of an entry, or false if another has it and `wait` is false.

        Its file is removed afterwards. Whoever waited for a file that was removed then has a lock
        that nobody else sees, and takes the lock again.
        """
        path = self.folder / f"{name}{LOCK}"
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        while True:
            with self._refusing():
                number = os.open(path, flags, 0o600)
            try:
                try:
                    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if not wait:
                        yield False
                        return
                    self.report("waiting for another process that builds the same")
                    fcntl.flock(number, fcntl.LOCK_EX)
                if not _is_at(number, path):
                    continue
                try:
                    yield True
                finally:
                    path.unlink(missing_ok=True)
                return
            finally:
                os.close(number)

    def _clean(self, name: str) -> None:
        """Remove what builds that were killed have left, and what nobody has used for long."""
        with self._refusing():
            for path in list(self.folder.iterdir()):
                other = path.name.removeprefix(BUILDING).removesuffix(LOCK)
                left = path.name.startswith(BUILDING) or path.name.endswith(LOCK)
                if other == name or not NAME.fullmatch(other):
                    continue
                if not left and not _is_unused(path):
                    continue
                with self._lock(other, wait=False) as held:
                    if held and left:
                        _remove(self.folder / f"{BUILDING}{other}")
                    elif held and _is_unused(path):
                        _remove(path)

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        """Say errors of the system in one line."""
        try:
            yield
        except OSError as error:
            raise _refusal(self.folder, error) from error


def _check_folder(folder: Path) -> None:
    status = os.lstat(folder)
    if stat.S_ISLNK(status.st_mode) or not stat.S_ISDIR(status.st_mode):
        raise CacheError(
            f"{folder}: builds are kept only in a folder, and not by way of a link; remove it, or "
            "name another"
        )
    if status.st_uid != os.geteuid():
        raise CacheError(
            f"{folder}: belongs to user {status.st_uid}, not to you ({os.geteuid()}); what is "
            "built there is run: name a folder of yours"
        )
    if status.st_mode & 0o077:
        if any(folder.iterdir()):
            raise CacheError(
                f"{folder}: is open to others (mode {stat.S_IMODE(status.st_mode):o}); what is "
                f"built there is run: chmod 700 {folder} if all in it is yours, or name another"
            )
        folder.chmod(0o700)  # nothing was put into it yet
        if any(folder.iterdir()):
            raise CacheError(f"{folder}: others write into it; name another folder")


def _check_owned(path: Path, is_kind: Callable[[int], bool]) -> None:
    status = os.lstat(path)
    if not is_kind(status.st_mode) or status.st_uid != os.geteuid():
        raise CacheError(
            f"{path}: is a link, of another kind or of another user; nothing here was put there by "
            "this program: remove it"
        )


def _is_at(number: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(number), os.lstat(path))
    except FileNotFoundError:
        return False


def _is_unused(path: Path) -> bool:
    """Tell whether a path is an entry that has not been used for long."""
    try:
        used = os.lstat(path).st_mtime
        return (path / CONTENTS).is_file() and time.time() - used > UNUSED_S
    except FileNotFoundError:
        return False


def _contents(path: Path) -> dict[str, tuple[int, str]] | None:
    """The list of an entry's files; None if it is damaged."""
    try:
        contents = json.loads(path.read_bytes())
        return {str(name): (size, digest) for name, (size, digest) in contents.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _measure(path: Path) -> tuple[int, str]:
    """Size and digest of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    """Remove a folder or a file, whatever it is; links are not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _refusal(folder: Path, error: OSError) -> CacheError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return CacheError(
        f"{folder}: cannot keep what is built: {error.strerror or error}; "
        f"{'make room, or ' if full else ''}name another folder (--build-dir, or XDG_CACHE_HOME)"
    )
