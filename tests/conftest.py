from __future__ import annotations

import os
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from job.libraries import import_tensorflow
from job.storage import Store, open_store
from support import servers

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - else the other process of the tests would starve Ray

REAL_CLOUD = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "STORAGE_EMULATOR_HOST",
    "RAY_ADDRESS",
    "KUBERNETES_SERVICE_HOST",
    "THAW_RAYJOB",
    "THAW_NAMESPACE",
    "THAW_LOG",
)


def pytest_pycollect_makemodule(module_path: Path) -> None:
    """Tests have TensorFlow and Keras as the product's processes have them."""
    if re.search(r"^import (keras|tensorflow)", module_path.read_text(), re.MULTILINE):
        import_tensorflow()


RAY = ("tests/executors/ray/", "tests/integration/test_executors.py")
"""What needs Ray in the process of the tests, which starts it once."""
CLUSTERS = tuple(f"tests/integration/test_{name}.py" for name in ("arrival", "causes", "elastic", "kills_on_ray"))
"""What starts Ray in processes of its own, again and again: several at a time take minutes to answer on two cores."""


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return Groups(config, log)


class Groups(LoadScopeScheduling):
    """The tests of a file go to one process, which shares their fixtures; and so do all those that need Ray, and all
    whose runs start it."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid)


def _group(nodeid: str) -> str:
    file = nodeid.partition("::")[0]
    if file.startswith(RAY):
        return "ray"
    return "clusters" if file.startswith(CLUSTERS) or "[on Ray]" in nodeid else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that the processes end together."""
    longest = ("ray", "clusters")
    items.sort(key=lambda item: 0 if _group(item.nodeid) in longest else 1 if "integration" in item.path.parts else 2)


@pytest.fixture(scope="session", autouse=True)
def no_real_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The credentials of whoever runs the tests are out of reach."""
    patch = pytest.MonkeyPatch()
    for name in REAL_CLOUD:
        patch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "KUBECONFIG"):
        patch.setenv(name, os.devnull)
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patch.setenv("AWS_ACCESS_KEY_ID", "testing")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("THAW_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def no_determinism_is_left() -> Iterator[None]:
    """Whatever a test has asked of TensorFlow's ops, the next one in this process begins without."""
    yield
    if "tensorflow" in sys.modules:
        from tensorflow.python.framework.config import disable_op_determinism

        disable_op_determinism()


@pytest.fixture(scope="session")
def s3_server(no_real_cloud: None) -> Iterator[str]:
    with servers.s3_server() as endpoint:
        os.environ["AWS_ENDPOINT_URL"] = endpoint
        yield endpoint
        del os.environ["AWS_ENDPOINT_URL"]


@pytest.fixture(scope="session")
def gcs_server(no_real_cloud: None) -> Iterator[str]:
    with servers.gcs_server() as endpoint:
        os.environ["STORAGE_EMULATOR_HOST"] = endpoint
        yield endpoint
        del os.environ["STORAGE_EMULATOR_HOST"]


@pytest.fixture(scope="session")
def cluster(s3_server: str, gcs_server: str) -> Iterator[None]:
    """Ray, started once for all that needs it in this process; its workers know the servers.

    There is a proxy that nobody answers at, as if a company had one: nothing of a run may ask it.
    """
    from job.config.jobfile import parse_job
    from job.executors.ray.cluster import ray_cluster

    patch = pytest.MonkeyPatch()
    patch.setenv("http_proxy", "http://127.0.0.1:9")
    patch.setenv("no_proxy", "")
    with ray_cluster(parse_job("{name: any, data: {source: 'file:///'}, store: 'file:///', scaling: {workers: 2}}")):
        yield
    patch.undo()


@pytest.fixture
def s3_bucket(s3_server: str) -> Callable[[], str]:
    import boto3

    def make() -> str:
        name = f"test-{uuid.uuid4().hex[:12]}"
        boto3.client("s3").create_bucket(Bucket=name)
        return name

    return make


@pytest.fixture
def gcs_bucket(gcs_server: str) -> Callable[[], str]:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    def make() -> str:
        name = f"test-{uuid.uuid4().hex[:12]}"
        storage.Client(project="test", credentials=AnonymousCredentials()).create_bucket(name)
        return name

    return make


@pytest.fixture(params=["file", "s3", "gs"])
def store_uri(request: pytest.FixtureRequest, tmp_path: object) -> str:
    """An empty folder in each kind of store."""
    if request.param == "file":
        (tmp_path / "store").mkdir()  # type: ignore[operator]
        return f"file://{tmp_path}/store/"
    bucket = request.getfixturevalue("s3_bucket" if request.param == "s3" else "gcs_bucket")()
    return f"{request.param}://{bucket}/a folder/"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty folder of this machine. Tests that need another kind of store have a fixture of this name themselves."""
    (tmp_path / "store").mkdir()
    return open_store(f"file://{tmp_path}/store/")
