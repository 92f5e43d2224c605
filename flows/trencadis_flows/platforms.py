"""Installed platforms, as `platforminfo` lists them."""

import re
import subprocess

__all__ = ["installed_platforms", "read_platforms"]

TIMEOUT_S = 300


def installed_platforms() -> list[str]:
    """Names of the installed platforms; `platforminfo` must be there.

    Raises
    ------
    ValueError
        If `platforminfo` fails, or says something else than it should.
    """
    try:
        done = subprocess.run(
            ["platforminfo", "-l"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"platforminfo does not answer: {error}") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise ValueError(f"platforminfo ended with exit status {done.returncode}: {lines[-1]}")
    return read_platforms(done.stdout)


def read_platforms(text: str) -> list[str]:
    """Names in the list that `platforminfo -l` prints, which is JSON or nearly so.

    Raises
    ------
    ValueError
        If there is no such list.
    """
    names = re.findall(r'"baseName"\s*:\s*"([^"]+)"', text)
    if not names and "platforms" not in text:
        raise ValueError(f"platforminfo did not print a list of platforms, but {text[:80]!r}")
    return sorted(set(names))
