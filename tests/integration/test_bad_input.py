"""What a user is told about bad input: the exit code, one message to act on, and never a traceback."""

from __future__ import annotations

import io
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request

import keras
import numpy as np
import pytest
from botocore.config import Config
from PIL import Image
from safetensors.numpy import save

from job.storage import open_store
from job.storage.s3_client import CONFIG
from support.images import folder_of, picture
from support.networks import own_base

JOB = """
name: bad
data: {{source: file://{root}/good/, max_rejects: 0.01}}
store: file://{root}/store/
model: {{backbone: file://{root}/own.keras, image_size: 32, head: {{hidden: []}}}}
phases: {{head: {{epochs: 1}}, fine_tune: {{epochs: 1}}}}
train: {{batch_size: 16}}
"""
TABLE = "data={source: 'file://{root}/good/', layout: table, table: {file: %s, key: key, label: label}}"
ZEROS = "0" * 64


@dataclass(frozen=True)
class Bad:
    what: str
    code: int
    message: str
    """A regular expression that the last message must match."""
    settings: tuple[str, ...] = ()
    """`--set` of `thaw run` on a good job file."""
    command: tuple[str, ...] = ()
    """Instead of `thaw run` on the good job file."""


def case(what: str, code: int, message: str, *settings: str, command: tuple[str, ...] = ()) -> object:
    return pytest.param(Bad(what, code, message, settings, command), id=what)


JOB_FILE = [
    case("missing job file", 2, r"absent\.yaml: .*No such file", command=("run", "{root}/absent.yaml")),
    case("folder without a job file", 2, "/empty: there is no job file", command=("run", "{root}/empty")),
    case("job file is no text", 2, "not UTF-8 text", command=("run", "{root}/binary.yaml")),
    case("broken YAML", 2, "not valid YAML.*line 1, column", command=("run", "{root}/broken.yaml")),
    case("job file without keys", 2, "is a mapping .*got str", command=("run", "{root}/words.yaml")),
    case("no store", 2, "store: this key is needed", command=("run", "{root}/no-store.yaml")),
    case("typo in a key", 2, r"train\.bach_size: unknown key \(nearest: 'batch_size'\)", "train.bach_size=4"),
    case("word for a number", 2, r"train\.batch_size: .*integer.*got 'many'", "train.batch_size=many"),
    case("not a URI", 2, "store: a URI must begin with s3://, gs:// or file://", "store=bucket/folder"),
    case("--set without a value", 2, r"write it as a\.b=value", "train.seed"),
    case("two unfreeze rules", 2, "exactly one of", "phases.fine_tune.unfreeze={blocks: 1, from: conv_1}"),
    case("unknown option", 2, "No such option", command=("run", "{root}/job.yaml", "--fast")),
    case("unknown verb", 2, "No such command", command=("rnu", "{root}/job.yaml")),
    case(
        "--phase without that phase",
        2,
        "phases.fine_tune: null",
        command=("run", "{root}/job.yaml", "--phase", "fine_tune", "--set", "phases.fine_tune=null"),
    ),
]
NETWORK = [
    case("unknown backbone", 2, "no backbone 'vgg91' .nearest: 'vgg19'", "model={backbone: vgg91}"),
    case("unknown layer", 2, "no layer 'conv_9' .*nearest: 'conv_", "phases.fine_tune.unfreeze={from: conv_9}"),
    case("pattern without a match", 2, "'cnv_1' matches no layer.*nearest", "phases.fine_tune.unfreeze={match: cnv_1}"),
    case("more blocks than there are", 2, "9 of 3 blocks", "phases.fine_tune.unfreeze={blocks: 9}"),
    case("layers without weights", 2, "holds no weights", "phases.fine_tune.unfreeze={match: 're_lu*'}"),
    case(
        "image too small",
        2,
        r"image_size: vgg16 can't take \(16, 16",
        "model={backbone: vgg16, image_size: 16, weights: none}",
    ),
    case("another image size than the base's", 2, "image_size: .*own.keras takes", "model.image_size=64"),
    case(
        "sha256 mismatch",
        2,
        r"other\.safetensors has sha256 \w{64}, and the job file says 0{64}",
        f"model.weights={{uri: 'file://{{root}}/other.safetensors', sha256: '{ZEROS}'}}",
    ),
    case("weights of another network", 2, "belong to another network", "model.weights=file://{root}/other.safetensors"),
    case("broken weights", 2, "does not fit .*or is broken", "model.weights=file://{root}/broken.safetensors"),
    case("weights that nobody has", 4, r"there is no object .*absent\.h5", "model.weights=file://{root}/absent.h5"),
    case(
        "weights of no known kind",
        2,
        r"labels.csv: the format must be one of \.safetensors",
        "model.weights=file://{root}/labels.csv",
    ),
    case("a network that carries code", 2, "can't be loaded safely", "model.backbone=file://{root}/code.keras"),
    case("a network that is none", 2, "can't be loaded safely", "model.backbone=file://{root}/text.keras"),
    case("a truncated network", 2, "can't be loaded safely", "model.backbone=file://{root}/truncated.keras"),
    case("weight for an unknown class", 2, "no class 'rde' .*nearest: 'red'", "train.class_weights={rde: 2.0}"),
]
DATA = [
    case("empty folder", 3, "empty/: no labelled examples .*the prefix is empty", "data.source=file://{root}/empty/"),
    case("empty prefix", 3, "no labelled examples .*the prefix is empty", "data.source=s3://bad-input/nothing/"),
    case("images outside of class folders", 3, "40 not in a class folder", "data.source=file://{root}/good/red/"),
    case("one class only", 3, "only one class, 'red'", "data.source=file://{root}/one/"),
    case("too few examples", 3, "(split is empty|no example on the train side)", "data.source=file://{root}/few/"),
    case(
        "empty objects",
        3,
        "2 of 42 .*'red'.*max_rejects.*red/empty0.png: empty object",
        "data.source=file://{root}/hollow/",
    ),
    case("objects too large", 3, r"larger than data\.max_bytes \(9\)", "data.max_bytes=9"),
    case("no label file", 3, "there is no label file .*absent.csv", TABLE % "absent.csv"),
    case("label file without the column", 3, "no column 'label' .*nearest: 'labels'", TABLE % "columns.csv"),
    case(
        "label file with a missing key",
        3,
        "none.png: in the label file, but not in the source",
        TABLE % "missing.csv",
    ),
    case("a key with two labels", 3, "gives 'red/image 001.png' twice", TABLE % "twice.csv"),
    case(
        "label file of another kind",
        3,
        "is no Parquet file, but text .'only words'.. A table is CSV",
        TABLE % "no.parquet",
    ),
    case(
        "label file with broken rows",
        3,
        "ragged.csv can.t be read: line . has 3 cells, and the header 2",
        TABLE % "ragged.csv",
    ),
]
STORAGE = [
    case("missing folder", 4, "absent/ does not exist: check the path", "data.source=file://{root}/absent/"),
    case("missing bucket", 4, "no bucket 'absent-bucket'", "data.source=s3://absent-bucket/x/"),
    case("missing bucket of Google's", 4, "there is a bucket 'absent-bucket'", "data.source=gs://absent-bucket/x/"),
    case("store in a missing bucket", 4, "no bucket 'absent-bucket'", "store=s3://absent-bucket/x/"),
    case("store below a file", 4, "could not .*Not a directory", "store=file://{root}/job.yaml/store/"),
]
OTHER = [
    case("model that is none", 2, "is no exported model", command=("predict", "{root}/good", "{root}/good.png")),
    case("predict without files", 2, "Missing argument 'FILES", command=("predict", "{root}/good")),
    case(
        "fine-tuning without a head",
        5,
        "no checkpoint of a converged head.*--phase head first",
        command=("run", "{root}/job.yaml", "--phase", "fine_tune"),
    ),
]


@pytest.fixture(scope="module")
def root(s3_server: str, gcs_server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good job file and its data, and beside them everything that is bad."""
    import boto3

    boto3.client("s3").create_bucket(Bucket="bad-input")
    folder = tmp_path_factory.mktemp("bad-input")
    texts = {
        "job.yaml": JOB.format(root=folder),
        "broken.yaml": "name: [",
        "words.yaml": "only words",
        "no-store.yaml": "{name: a, data: {source: 's3://bucket/'}}",
        "labels.csv": "",
        "text.keras": "only words",
        "broken.safetensors": "only words",
        "good/columns.csv": "key,labels\n",
        "good/missing.csv": "key,label\nred/none.png,red\nred/image 001.png,red\n",
        "good/twice.csv": "key,label\nred/image 001.png,red\nred/image 001.png,green\n",
        "good/no.parquet": "only words",
        "good/ragged.csv": "key,label\na,b\na,b,c\n",
    }
    (folder / "good").mkdir()
    (folder / "empty").mkdir()
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (folder / "other.safetensors").write_bytes(_other_weights())
    (folder / "truncated.keras").write_bytes(own_base(folder / "own.keras")[:5000])
    (folder / "good.png").write_bytes(picture(0, "red"))
    code = keras.Sequential([keras.Input([32, 32, 3]), keras.layers.Lambda(lambda x: x * 2), keras.layers.Flatten()])
    code.save(folder / "code.keras")
    good = folder_of(80)
    _fill(folder / "good", good)
    _fill(folder / "one", {key: content for key, content in good.items() if key.startswith("red/")})
    _fill(folder / "few", dict(list(good.items())[:2]))
    _fill(folder / "hollow", {**good, "red/empty0.png": b"", "red/empty1.png": b""})
    bad = {
        "red/0 cut.png": picture(1, "red", size=90)[:3000],
        "red/1 text.jpg": b"only words",
        "red/2 huge.png": _huge(),
    }
    _fill(folder / "undecodable", {**good, **bad})
    return folder


def _fill(folder: Path, objects: dict[str, bytes]) -> None:
    store = open_store(f"file://{folder}/")
    for key, content in objects.items():
        store.write(key, content)


def _other_weights() -> bytes:
    return save({"layer/kernel": np.zeros([3, 3], np.float32)})


def _huge() -> bytes:
    """30,000 by 30,000 pixels in a hundred kilobytes."""
    buffer = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def told(root: Path, here: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[[Bad], str]:
    """Runs the command line on a bad input and returns its last message, after looking at the rest."""

    def run(bad: Bad) -> str:
        command = list(bad.command) or ["run", f"{root}/job.yaml"]
        command += [word for setting in bad.settings for word in ("--set", setting)]
        ended = here(*(word.replace("{root}", str(root)) for word in command))
        assert ended.stdout == ""
        assert "Traceback" not in ended.stderr
        assert ended.returncode == bad.code, ended.stderr
        message = ended.stderr.strip().splitlines()[-1]
        assert re.match("thaw: |Error: ", message), ended.stderr
        assert len(message) < 900
        return message

    return run


@pytest.mark.parametrize("bad", [*JOB_FILE, *NETWORK, *DATA, *STORAGE, *OTHER])
def test_bad_input_ends_with_its_exit_code_and_a_message(bad: Bad, told: Callable[[Bad], str]) -> None:
    assert re.search(bad.message, told(bad))


def test_no_permission(told: Callable[[Bad], str], s3_server: str) -> None:
    with _guarded(s3_server):
        message = told(Bad("", 4, "", ("data.source=s3://bad-input/cells/",)))
    assert re.search(r"s3://bad-input/cells/: not allowed to list it \(\w+\): check the credentials", message)


def test_a_storage_server_that_is_not_there(told: Callable[[Bad], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(
        "job.storage.s3_client.CONFIG", CONFIG.merge(Config(retries={"mode": "legacy", "total_max_attempts": 3}))
    )
    message = told(Bad("", 4, "", ("data.source=s3://bad-input/cells/",)))
    assert re.search(r"bad-input/cells/: could not list it, after retries \(.*127\.0\.0.*check the network", message)


def test_a_cluster_that_is_not_there(told: Callable[[Bad], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    assert re.search("Nobody answers at 127.0.0.1:9 .*check RAY_ADDRESS", told(Bad("", 6, "")))


@contextmanager
def _guarded(endpoint: str) -> Iterator[None]:
    """Lets the S3 server check who asks; the tests' credentials are nobody's."""

    def free_requests(count: str) -> None:
        text = {"Content-Type": "text/plain"}
        urllib.request.urlopen(Request(f"{endpoint}/moto-api/reset-auth", count.encode(), text)).close()

    free_requests("0")
    try:
        yield
    finally:
        free_requests("inf")


def test_images_that_cannot_be_decoded(told: Callable[[Bad], str]) -> None:
    undecodable = told(Bad("", 3, "", ("data.source=file://{root}/undecodable/",)))
    assert "3 of 43 objects of class 'red' can't be used, more than data.max_rejects (1.0%)" in undecodable
    assert "0 cut.png: broken image: its pixels can't be decoded (truncated?)" in undecodable
    assert "1 text.jpg: not an image: it is text" in undecodable
    assert "2 huge.png: 30000×30000 is more than data.max_pixels (50000000)" in undecodable


@pytest.mark.slow
def test_a_loss_that_is_not_finite(told: Callable[[Bad], str]) -> None:
    message = told(
        Bad("", 5, "", ("model.head={hidden: [8]}", "phases.head={epochs: 3, optimizer: sgd, learning_rate: 1e38}"))
    )
    assert re.search(r"head: the .*loss is not finite .*epoch \d.*Lower phases.head.learning_rate \(1e\+38\)", message)
