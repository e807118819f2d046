"""Builds the image with buildah on a base made by debootstrap; runs it as Kubernetes does: read-only, as uid 1000."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from job import __version__

ROOT = Path(__file__).parents[2]
BASE = "localhost/thaw-base:bookworm"
PACKAGES = "python3,python3-venv,ca-certificates"
ENVIRONMENT = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
CERTIFICATES = "/etc/ssl/certs:/etc/ssl/certs:ro"
ENTER = """
set -e
mount --make-rprivate /
mount --bind {root} {root}
mkdir -p {root}/cache {root}/data
mount -o remount,bind,ro {root}
mount -t proc proc {root}/proc
mount --rbind /dev {root}/dev
mount -t tmpfs -o mode=1777,size=1g tmpfs {root}/dev/shm
for folder in tmp cache; do mount -t tmpfs -o mode=1777 tmpfs {root}/$folder; done
mount --bind {work} {root}/data
mount --bind /etc/hosts {root}/etc/hosts
exec chroot {root} setpriv --reuid={user} --regid={group} --clear-groups --no-new-privs --bounding-set=-all \\
    --inh-caps=-all env --ignore-environment {environment} {command}
"""


@dataclass(frozen=True)
class Container:
    """An image's root file system, and its configuration."""

    root: Path
    config: dict
    """As OCI has it: Env, User, Entrypoint, Labels, …"""
    size: int
    """Bytes."""

    def run(self, *command: str, work: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """In namespaces of its own: all processes end with the first. Only /tmp, /cache, /data and /dev/shm are
        writable; `work` is what /data shows."""
        user, group = self.config["User"].split(":")
        script = ENTER.format(
            root=self.root,
            work=work,
            user=user,
            group=group,
            environment=shlex.join(self.config["Env"]),
            command=shlex.join(command),
        )
        enter = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "sh", "-c", script]
        return subprocess.run(enter, capture_output=True, text=True, timeout=timeout)


@contextmanager
def built_container(folder: Path) -> Iterator[Container]:
    """Builds base and image from nothing, as a user with `make image` does. The base has pip, and has it where that of
    Python's own images is."""
    rootfs = folder / "base"
    _do("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(rootfs), *_mirror())
    _do("chroot", str(rootfs), "/usr/bin/python3", "-m", "venv", "/usr/local")
    _do("chroot", str(rootfs), "/usr/local/bin/pip", "--version")
    scratch = _do("buildah", "from", "scratch")
    _do("buildah", "copy", "--quiet", scratch, str(rootfs), "/")
    _do("buildah", "commit", "--quiet", "--rm", scratch, BASE)
    shutil.rmtree(rootfs)  # the build needs some 15 GB, and more where it can't layer file systems
    flags = f"--pull-never --layers=false --volume {CERTIFICATES}"
    _do("make", "image", "ENGINE=buildah", f"BASE_IMAGE={BASE}", f"BUILD_FLAGS={flags}")
    made = _do("buildah", "from", "--pull-never", f"localhost/thaw:{__version__}")
    try:
        config = json.loads(_do("buildah", "inspect", made))["OCIv1"]["config"]
        root = Path(_do("buildah", "mount", made))
        size = int(_do("du", "--summarize", "--bytes", str(root)).split()[0])
        yield Container(root, config, size)
    finally:
        _do("buildah", "rm", made)


def _mirror() -> list[str]:
    """Where this machine's own packages come from."""
    for source in (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")):
        for line in source.read_text().splitlines() if source.exists() else []:
            words = line.split()
            if words[:1] == ["URIs:"]:
                return words[1:2]
            if words[:1] == ["deb"]:
                return [next(word for word in words[1:] if "://" in word)]
    return []


def _do(*command: str) -> str:
    done = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(command)}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout.strip()
