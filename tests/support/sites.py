"""A job with its data, its queue and its cluster, and `thaw watch` as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from job.config import Job
from job.config.jobfile import dump_job, parse_job
from job.data.snapshot import Snapshot
from job.deploy.naming import name_run
from job.model.resolved import ResolvedBase, record_key, weights_request
from job.run.identity import run_id
from job.storage import open_store, read_json
from support.kube import Kube, kubeconfig
from support.overlays import built_overlay

PATIENCE = 300.0
"""Seconds."""
BASE = ResolvedBase("0" * 64)


class Site:
    def __init__(self, root: Path, source: str, queue: str, kube: Kube, kube_url: str, **environment: str) -> None:
        """`environment`: where the watcher finds the servers, besides what is in this process's own."""
        self.root, self.kube, self.queue = root, kube, queue
        self.told: list[dict[str, Any]] = []
        """By all watchers that have ended."""
        self._read, self._covered = list[str](), set[str]()
        text = f"{{name: storm, data: {{source: '{source}'}}, store: 'file://{root}/store/'}}"
        self.job: Job = parse_job(text)
        self.source, self.store = open_store(source), open_store(self.job.store)
        known = json.dumps({"weights_sha256": BASE.weights_sha256}).encode()
        self.store.write(record_key(weights_request(self.job.model, self.job.train.seed)), known)
        (root / "job.yaml").write_text(dump_job(self.job))
        (root / "kubeconfig").write_text(kubeconfig(kube_url))
        built_overlay(root)
        self._environment = {**os.environ, "KUBECONFIG": str(root / "kubeconfig"), **environment}
        self.settle(quiet_for=0.5, max_wait=4)

    def settle(self, visibility: int = 6, **rule: Any) -> None:
        """Writes the watch file."""
        job = {"job": "job.yaml", "overlay": "overlay.yaml", **rule}
        document = {"queue": self.queue, "visibility": visibility, "listen": None, "jobs": [job]}
        (self.root / "watch.yaml").write_text(yaml.safe_dump(document))

    def key(self, number: int) -> str:
        """Below the source."""
        return f"{('crack', 'whole')[number % 2]}/{number:04d} ü+.png"

    def put(self, numbers: range) -> None:
        for number in numbers:
            self.source.write(self.key(number), b"an image")

    def run(self) -> str:
        """Of the data as it is."""
        return str(name_run(self.job, lambda *_, **__: None).run)

    def rayjobs(self) -> list[str]:
        with self.kube.changed:
            return [name for kind, name in self.kube.objects if kind == "rayjobs"]

    def end_runs(self) -> None:
        for name in self.rayjobs():
            self.kube.edit("rayjobs", name, {"status": {"jobDeploymentStatus": "Complete"}})

    def covered(self) -> set[str]:
        """The URIs in the snapshots of all RayJobs that there are."""
        names = self.rayjobs()
        if names != self._read:  # a snapshot is there before its RayJob
            self._read, self._covered = names, set()
            for info in list(self.store.list("snapshots/")):
                if info.key.endswith(".json"):
                    snapshot = Snapshot(**read_json(self.store, info.key))
                    if run_id(self.job, snapshot, BASE) in names:
                        keys = pq.read_table(self.root / "store" / snapshot.key, columns=["key"])["key"].to_pylist()
                        self._covered |= {self.source.uri + key for key in keys}
        return self._covered

    def start(self, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "job", "watch", str(self.root / "watch.yaml"), *options]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self._environment
        )

    def read(self, process: subprocess.Popen[str]) -> str:
        """Waits for its end; what it said on standard error."""
        output, errors = process.communicate(timeout=PATIENCE)
        self.told += [json.loads(line) for line in output.splitlines(keepends=True) if line.endswith("}\n")]
        return errors

    def decisions(self) -> list[str]:
        return [line["outcome"] for line in self.told if line["event"] == "decision"]


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)
