"""From the last event to the RayJob: `thaw watch` as a process, S3 and SQS as moto's server, a Kubernetes API on
loopback. Events of one arrival come for a while; what counts is the time after the last of them, less `quiet_for`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import boto3
import yaml

from job.config.jobfile import load_job
from job.model.resolved import record_key, weights_request
from job.storage import open_store
from support.arrivals import s3_event
from support.kube import Kube, kubeconfig, kubernetes
from support.overlays import built_overlay
from support.servers import s3_server

QUIET = 2.0
EVENTS = 20
"""Of each arrival."""
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}
JOB = "{name: cells, data: {source: 's3://arrival/cells/'}, store: 's3://arrival/thaw/'}"


def seconds_to_rayjobs(arrivals: int) -> list[float]:
    """Of each arrival: from its last event to its RayJob, in seconds, less QUIET."""
    with tempfile.TemporaryDirectory(prefix="arrival-") as temporary, ExitStack() as stack:
        root = Path(temporary)
        os.environ |= {**CREDENTIALS, "AWS_ENDPOINT_URL": stack.enter_context(s3_server())}
        kube, url = stack.enter_context(kubernetes())
        (root / "kubeconfig").write_text(kubeconfig(url))
        boto3.client("s3").create_bucket(Bucket="arrival")
        queue = boto3.client("sqs").create_queue(QueueName="arrivals")["QueueUrl"]
        (root / "job.yaml").write_text(JOB)
        job = load_job(root / "job.yaml")
        base = json.dumps({"weights_sha256": "0" * 64}).encode()  # no TensorFlow: what names the run is known
        open_store(job.store).write(record_key(weights_request(job.model, job.train.seed)), base)
        built_overlay(root)
        rule = {"job": "job.yaml", "overlay": "overlay.yaml", "quiet_for": QUIET}
        (root / "watch.yaml").write_text(yaml.safe_dump({"queue": queue, "jobs": [rule], "listen": None}))
        environment = {**os.environ, "KUBECONFIG": str(root / "kubeconfig")}
        command = [sys.executable, "-m", "job", "watch", str(root / "watch.yaml")]
        watcher = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
        stack.callback(watcher.communicate)
        stack.callback(watcher.terminate)
        assert watcher.stdout is not None
        watcher.stdout.readline()  # it listens
        return [_arrive(number, queue, kube) for number in range(arrivals)]


def _arrive(number: int, queue: str, kube: Kube) -> float:
    s3, sqs = boto3.client("s3"), boto3.client("sqs")
    for index in range(EVENTS):
        key = f"cells/{('crack', 'whole')[index % 2]}/{number}-{index}.png"
        s3.put_object(Bucket="arrival", Key=key, Body=b"an image")
        sqs.send_message(QueueUrl=queue, MessageBody=s3_event("arrival", key))
    last = time.time()
    kube.wait_for(lambda: len(_rayjobs(kube)) > number, 120)
    seconds = time.time() - last - QUIET
    for name in _rayjobs(kube):
        kube.edit("rayjobs", name, {"status": {"jobDeploymentStatus": "Complete"}})
    return seconds


def _rayjobs(kube: Kube) -> list[str]:
    return [name for kind, name in kube.objects if kind == "rayjobs"]
