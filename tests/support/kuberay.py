"""What KubeRay does, as far as a test needs it: the entrypoint of each RayJob is run, as a process of this machine."""

from __future__ import annotations

import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.kube import Kube, Object


class Operator:
    """Runs the RayJobs of a `Kube` one after the other, in the order of their creation."""

    def __init__(self, kube: Kube, folder: Path) -> None:
        self.output: dict[str, str] = {}
        """Standard error of each RayJob that has ended, by its name."""
        self._kube, self._folder = kube, folder
        self._over = False
        self._thread = threading.Thread(target=self._operate)
        self._thread.start()

    def stop(self) -> None:
        with self._kube.changed:
            self._over = True
            self._kube.changed.notify_all()
        self._thread.join()

    def _operate(self) -> None:
        while True:
            with self._kube.changed:
                self._kube.changed.wait_for(lambda: self._over or self._new())
                if self._over:
                    return
                name = self._new()[0]["metadata"]["name"]
                rayjob = self._kube.edit("rayjobs", name, {"status": {"jobDeploymentStatus": "Running"}})
            ended = self._run(rayjob)
            states = ("Failed", "FAILED") if ended.returncode else ("Complete", "SUCCEEDED")
            self.output[name] = ended.stderr
            status = dict(zip(("jobDeploymentStatus", "jobStatus"), states, strict=True))
            self._kube.edit("rayjobs", name, {"status": status})

    def _new(self) -> list[Object]:
        return [item for (kind, _), item in self._kube.objects.items() if kind == "rayjobs" and "status" not in item]

    def _run(self, rayjob: Object) -> subprocess.CompletedProcess[str]:
        """With the files of the ConfigMap that the head's pod mounts, where its command looks for them."""
        head = rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
        (volume,) = (volume for volume in head["volumes"] if volume["name"] == "job")
        (mount,) = (mount for mount in head["containers"][0]["volumeMounts"] if mount["name"] == "job")
        folder = self._folder / rayjob["metadata"]["name"]
        folder.mkdir(parents=True)
        for name, text in self._kube.get("configmaps", volume["configMap"]["name"])["data"].items():
            (folder / name).write_text(text)
        program, *words = shlex.split(rayjob["spec"]["entrypoint"].replace(mount["mountPath"], str(folder)))
        assert program == "thaw"
        return subprocess.run([sys.executable, "-m", "job", *words], capture_output=True, text=True)


@contextmanager
def operated(kube: Kube, folder: Path) -> Iterator[Operator]:
    operator = Operator(kube, folder)
    try:
        yield operator
    finally:
        operator.stop()
