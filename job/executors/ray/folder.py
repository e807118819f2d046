"""Prepares this machine for starting Ray: its folder, a home folder, and the token by which its processes
authenticate.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from job.errors import ClusterError

SOCKET = "/session_2026-01-31_23-59-59_000000_4194304/sockets/plasma_store"
"""The longest name of a socket below Ray's folder."""
LONGEST = 107
"""The most bytes of a socket's path on Linux."""
SHORT = "/tmp"


@contextmanager
def ray_folder() -> Iterator[str]:
    """Ray's folder in RAY_TMPDIR or TMPDIR, through a short link where the paths of its sockets would be too long.

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
    """Sets a token for the processes of a Ray that is started here, unless one is set already.

    Ray would write its own into the home folder, which a container's user may not be allowed to.
    """
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def ensure_home() -> None:
    """Sets HOME where the user has no home folder, as in containers: Ray can't be imported without one."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.gettempdir()


def _fits(base: str) -> bool:
    return len(os.fsencode(os.path.join(base, "ray") + SOCKET)) <= LONGEST
