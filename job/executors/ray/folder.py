"""What Ray needs of the machine that it is started on: folders, and a token that its processes know each other by."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from job.errors import ClusterError

SOCKET = "/session_2026-01-31_23-59-59_000000_4194304/sockets/plasma_store"
"""The longest of the names that Ray gives to sockets below its folder."""
LONGEST = 107
"""Bytes of a socket's path, on Linux."""
SHORT = "/tmp"


@contextmanager
def ray_folder() -> Iterator[str]:
    """Ray's folder in RAY_TMPDIR or TMPDIR; by a shorter name where those of its sockets would be too long.

    Raises ClusterError.
    """
    base = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    if _fits(base):
        yield os.path.join(base, "ray")
        return
    try:
        link = tempfile.mktemp(prefix="ray-", dir=SHORT)
        os.symlink(base, link)
    except OSError as error:
        raise ClusterError(
            f"{base}: the names of Ray's sockets would be longer there than the {LONGEST} bytes that Linux allows: set "
            f"RAY_TMPDIR to a shorter folder (there is no room for a link in {SHORT}: {error})."
        ) from error
    try:
        yield os.path.join(link, "ray")
    finally:
        with suppress(OSError):
            os.unlink(link)


def own_token() -> None:
    """Gives the processes of a Ray that is started here a token, unless a person has seen to that.

    Ray would write one into the home folder, where a container's user may not write.
    """
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def some_home() -> None:
    """Names a home folder where the user has none, as a container's user may: Ray can't be imported without."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.gettempdir()


def _fits(base: str) -> bool:
    return len(os.fsencode(os.path.join(base, "ray") + SOCKET)) <= LONGEST
