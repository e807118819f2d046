"""The server of `thaw serve`, asked over HTTP: what it answers, whom it refuses, and how it ends."""

from __future__ import annotations

import base64
import http.client
import json
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import numpy as np
import pytest
import tensorflow as tf

from job.errors import JobError
from job.export.predict import Predictor, loaded
from job.serving import server as serving
from job.serving.server import serve
from support import exported
from support.cases import slow
from support.images import encode, picture
from support.kinds import READ, REFUSED
from support.served import served
from support.tools import need


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> exported.Finished:
    return exported.finished_pictures(tmp_path_factory.mktemp("run"))


class Server(NamedTuple):
    uri: str
    predictor: Predictor
    told: list[str]
    """What was said on the terminal."""

    @property
    def address(self) -> tuple[str, int]:
        where = urlsplit(self.uri)
        assert where.hostname
        assert where.port
        return where.hostname, where.port


@pytest.fixture(scope="module")
def server(run: exported.Finished) -> Iterator[Server]:
    told: list[str] = []
    with loaded(str(run.model)) as predictor, served(predictor, str(run.model), told=told) as uri:
        yield Server(uri, predictor, told)


def ask(
    server: Server, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, Any, http.client.HTTPMessage]:
    host, port = server.address
    with closing(http.client.HTTPConnection(host, port, timeout=60)) as connection:
        connection.request(method, path, body, {"Host": f"127.0.0.1:{port}", **(headers or {})})
        reply = connection.getresponse()
        content = reply.read()
    return reply.status, content, reply.headers


def test_a_picture_is_answered_as_the_network_answers(server: Server, run: exported.Finished) -> None:
    status, content, _ = ask(server, "POST", "/predict", run.encoded[0])
    answer = json.loads(content)
    assert status == 200
    np.testing.assert_allclose(list(answer["probabilities"].values()), run.probabilities(run.encoded[:1])[0], atol=1e-5)
    assert answer["class"] == max(answer["probabilities"], key=answer["probabilities"].get)


def curl(server: Server, *words: str) -> tuple[int, Any]:
    """The status, and what was answered."""
    command = ["curl", "--silent", "--write-out", "\n%{http_code}", *words, f"{server.uri}predict"]
    *lines, status = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return int(status), json.loads("".join(lines))


def test_curl_sends_a_picture_as_it_likes(server: Server, run: exported.Finished, tmp_path: Path) -> None:
    need("curl")
    (tmp_path / "a.png").write_bytes(run.encoded[0])
    raw = curl(server, "--data-binary", f"@{tmp_path}/a.png")
    assert raw == curl(server, "-F", f"file=@{tmp_path}/a.png") == (200, json.loads(ask_raw(server, run.encoded[0])))
    status, answer = curl(server, "-d", f"@{tmp_path}/a.png")
    assert (status, "use --data-binary" in answer["error"]) == (422, True)


def ask_raw(server: Server, content: bytes) -> bytes:
    return ask(server, "POST", "/predict", content)[1]


def form(*fields: tuple[str, bytes]) -> tuple[bytes, dict[str, str]]:
    """A form's body and header; a field's name is followed by the file's, after a slash."""
    parts = []
    for where, content in fields:
        name, _, file = where.partition("/")
        named = f'; filename="{file}"' if file else ""
        parts.append(f'--limit\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + content)
    return b"\r\n".join([*parts, b"--limit--\r\n"]), {"Content-Type": "multipart/form-data; boundary=limit"}


def test_several_files_are_answered_in_their_order(server: Server, run: exported.Finished) -> None:
    body, headers = form(("file/a.png", run.encoded[0]), ("file/b.txt", b"words"), ("other/c.png", run.encoded[1]))
    status, content, _ = ask(server, "POST", "/predict", body, headers)
    a, b, c = json.loads(content)["answers"]
    assert (status, b) == (200, {"file": "b.txt", "error": "This file can't be used: not an image: it is text."})
    for answer, file, encoded in ((a, "a.png", run.encoded[0]), (c, "c.png", run.encoded[1])):
        assert answer.pop("file") == file
        assert answer["class"] == json.loads(ask_raw(server, encoded))["class"]
    body, headers = form(("file/a.txt", b"words"), ("file/b.txt", b""))
    assert ask(server, "POST", "/predict", body, headers)[0] == 422


@pytest.mark.parametrize(
    ("body", "headers", "told"),
    [
        (*form(("file", b"x.jpg")), "The field 'file' is no file: curl -F file=@picture.jpg sends one (with the @)."),
        (*form(), "This form is empty, or cut short: curl -F file=@picture.jpg sends one."),
        (form(("f/x", b"x"))[0][:-20], form()[1], "This form is empty, or cut short"),
        (b"x", form()[1], "Invalid multipart data"),
        (b"x", {"Content-Type": "multipart/form-data"}, "Missing boundary in multipart"),
        (b"", {"Content-Type": "Multipart/Form-Data; boundary=a"}, "This form is empty, or cut short"),
    ],
    ids=["no @", "empty", "cut short", "no form", "no boundary", "nothing"],
)
def test_a_form_that_has_no_file_gets_a_sentence(
    body: bytes, headers: dict[str, str], told: str, server: Server
) -> None:
    status, content, _ = ask(server, "POST", "/predict", body, headers)
    assert (status, json.loads(content)["error"][: len(told)]) == (400, told)


class Noting:
    """A model that notes what it is asked about, and whether it is asked about two things at a time."""

    classes = ("noted",)

    def __init__(self, task: str) -> None:
        self.task = task
        self.asked: list[bytes] = []
        self.at_once = 0
        self._asking = threading.Lock()

    def answers(self, encoded: list[bytes]) -> list[dict[str, Any]]:
        self.at_once += not self._asking.acquire(blocking=False)
        time.sleep(0.01)
        self.asked += encoded
        self._asking.release()
        return [{"class": "noted", "probabilities": {"noted": 1.0}} for _ in encoded]


@contextmanager
def noting(task: str) -> Iterator[tuple[Server, Noting]]:
    model, told = Noting(task), list[str]()
    with served(model, "noting", told=told) as uri:
        yield Server(uri, cast(Predictor, model), told), model
    assert told == []


def test_what_is_sent_comes_out_as_it_was() -> None:
    with noting("image") as (server, model):
        for seed in range(100):
            draw = random.Random(seed)
            whole = draw.randbytes(300 if seed else 3 * 2**20)
            lines = bytes(draw.choice(b"\r\n-limt:\0\x85\x0c\x1c ") for _ in range(60))
            assert ask(server, "POST", "/predict", *form(("file/a", whole), ("file/b", lines)))[0] == 200
            assert ask_raw(server, whole) == b'{"class": "noted", "probabilities": {"noted": 1.0}}\n'
            assert model.asked == [whole, lines, whole]
            model.asked.clear()


def test_a_form_may_have_the_texts_themselves() -> None:
    with noting("text") as (server, model):
        body, headers = form(("text", "Größe, 寸法".encode()), ("file/b.txt", b"words"))
        status, content, _ = ask(server, "POST", "/predict", body, headers)
        assert (status, [one["file"] for one in json.loads(content)["answers"]]) == (200, ["text", "b.txt"])
        assert model.asked == ["Größe, 寸法".encode(), b"words"]


def test_the_model_is_asked_one_thing_at_a_time() -> None:
    with noting("image") as (server, model), ThreadPoolExecutor(8) as clients:
        statuses = list(clients.map(lambda n: ask(server, "POST", "/predict", b"%d" % n)[0], range(40)))
        assert (statuses, model.at_once) == ([200] * 40, 0)
        assert sorted(model.asked) == sorted(b"%d" % n for n in range(40))


def test_clients_that_are_slow_or_leave_hold_up_nobody() -> None:
    begun = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n" + b"x" * 1000
    with noting("image") as (server, model), ExitStack() as slow_ones:
        for _ in range(100):
            slow_ones.enter_context(socket.create_connection(server.address)).sendall(begun)
            with socket.create_connection(server.address) as leaving:
                leaving.sendall(begun)
        assert ask(server, "POST", "/predict", b"whole")[0] == 200
        assert model.asked == [b"whole"]


def test_a_request_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or those who send nothing would hold its memory for ever."""
    monkeypatch.setattr(serving, "LONGEST", 0.2)
    begun = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n" + b"x" * 1000
    with noting("image") as (server, model), socket.create_connection(server.address) as slow_one:
        slow_one.sendall(begun)
        assert slow_one.recv(4096).startswith(b"HTTP/1.1 408 ")
        assert model.asked == []


def test_every_kind_of_picture_is_answered_as_the_network_answers(server: Server, run: exported.Finished) -> None:
    """Also those that the exported model's own decoding would take for something else, or not at all."""
    encoded = [make() for make in READ.values()]
    answers = server.predictor.answers(encoded)
    wanted = run.probabilities(encoded)
    got = [list(answer["probabilities"].values()) for answer in answers]
    np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"only words", "This file can't be used: not an image: it is text."),
        (b"", "This file can't be used: empty object."),
        (
            picture(1, "red", size=90)[:3000],
            "This file can't be used: broken image: its pixels can't be decoded (trunc",
        ),
        (encode(np.zeros((8000, 7000, 3), np.uint8), "PNG"), "This file can't be used: 7000×8000 is more than"),
        (REFUSED["HEIC"][0], "This file can't be used: it is a HEIC picture, which can't be read: convert it to JPEG"),
    ],
    ids=["words", "nothing", "truncated", "bomb", "heic"],
)
def test_what_is_no_picture_gets_a_sentence(content: bytes, told: str, server: Server) -> None:
    status, reply, _ = ask(server, "POST", "/predict", content)
    assert status == 422
    assert json.loads(reply)["error"].startswith(told)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:8300"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost"}, 200),
        ({"Host": "[::1]:8300"}, 200),
    ],
    ids=str,
)
def test_other_sites_pages_may_not_ask(headers: dict[str, str], status: int, server: Server) -> None:
    for method, path, body in (("GET", "/", None), ("GET", "/model", None), ("POST", "/predict", picture(0, "red"))):
        assert ask(server, method, path, body, headers)[0] == status


def test_what_is_too_large_is_refused_unread(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MAX_BYTES", 1000)
    status, content, _ = ask(server, "POST", "/predict", b"x" * 1001)
    assert (status, json.loads(content)) == (413, {"error": "This is larger than 1000 bytes."})
    with socket.create_connection(server.address, timeout=30) as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000000\r\nExpect: 100-continue\r\n\r\n"
        )
        assert client.recv(1000).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"", 411),
        (b"Transfer-Encoding: chunked", 411),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 2", 411),
        (b"Content-Length: -1", 400),
        (b"Content-Length: 1e3", 400),
        (b"Content-Length: ", 400),
        (b"Content-Length: " + b"9" * 30, 400),
    ],
    ids=lambda value: value.decode() if isinstance(value, bytes) else str(value),
)
def test_a_length_that_is_none_is_refused(said: bytes, status: int, server: Server) -> None:
    with socket.create_connection(server.address, timeout=30) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\n" + said + b"\r\n\r\n2\r\nxx\r\n0\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 %d" % status)


def test_the_page_may_talk_to_nobody_else(server: Server) -> None:
    for path in ("/", "/page.js", "/page.css"):
        status, content, headers = ask(server, "GET", path)
        assert (status, headers["X-Frame-Options"], headers["Cache-Control"]) == (200, "DENY", "no-store")
        assert b"http://" not in content
        assert b"https://" not in content
    (policy,) = re.findall(r'"Content-Security-Policy" content="(.*?)"', ask(server, "GET", "/")[1].decode())
    assert {"default-src 'none'", "connect-src 'self'"} <= set(policy.split("; "))


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/../../etc/passwd"), ("GET", "/%2e%2e/server.py"), ("GET", "/predict"), ("POST", "/model"), ("PUT", "/")],
)
def test_where_nothing_is_the_way_is_told(method: str, path: str, server: Server) -> None:
    told = {"error": "There is nothing here: the page is /, and /predict takes POST."}
    status, content, _ = ask(server, method, path)
    assert (status, json.loads(content)) == (404, told)


def test_an_answer_that_is_not_a_number_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"class": "red", "probabilities": {"red": float("nan"), "green": 0.5}}
    monkeypatch.setattr(server.predictor, "answers", lambda encoded: [broken])
    status, content, _ = ask(server, "POST", "/predict", b"x")
    assert status == 500
    assert "not a number" in json.loads(content)["error"]


def test_a_model_that_fails_is_told_to_both(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(encoded: list[bytes]) -> None:
        raise MemoryError("no room\nfor it")

    monkeypatch.setattr(server.predictor, "answers", failing)
    status, content, _ = ask(server, "POST", "/predict", b"x")
    assert (status, json.loads(content)) == (500, {"error": "The model failed: MemoryError: no room."})
    assert server.told == ["MemoryError: no room"]
    monkeypatch.undo()
    assert ask(server, "POST", "/predict", picture(0, "red"))[0] == 200


def test_the_request_of_the_docs_fits_the_signature(run: exported.Finished) -> None:
    """As TensorFlow Serving reads it: an instance is an object of inputs by name, and {"b64": …} is bytes."""
    page = Path(__file__).parents[2].joinpath("docs/export.md").read_text(encoding="utf-8")
    requests = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]
    ((instance,),) = [one["instances"] for one in requests if "image" in one["instances"][0]]
    inputs = {name: tf.constant([base64.b64decode(value["b64"])]) for name, value in instance.items()}
    answer = tf.saved_model.load(str(run.model / "saved_model")).signatures["serving_default"](**inputs)
    assert answer["class"].numpy()[0].decode() in ("green", "red")
    assert answer["probabilities"].shape == (1, 2)
    assert [list(one["instances"][0]) for one in requests] == [["image"], ["text"]]


def test_a_port_that_is_taken_is_one_sentence(server: Server, run: exported.Finished) -> None:
    port = server.address[1]
    with pytest.raises(JobError, match=rf"can't listen on 127\.0\.0\.1, port {port}: .*Name another --port"):
        serve(str(run.model), "127.0.0.1", port, say=lambda line: None)


@pytest.mark.parametrize("number", [signal.SIGTERM, *slow(signal.SIGINT)])
def test_a_signal_ends_it_with_exit_code_0(number: signal.Signals, run: exported.Finished) -> None:
    command = [sys.executable, "-m", "job", "serve", run.uri, "--port", "0", "--host", "0.0.0.0"]
    heard = partial(signal.signal, number, signal.SIG_DFL)  # a shell's background job ignores SIGINT, and so would this
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    assert process.stderr is not None
    lines = [process.stderr.readline(), process.stderr.readline()]
    assert "everybody who reaches this machine can ask this model; there is no password" in lines[0]
    assert "serving http://0.0.0.0:" in lines[1]
    process.send_signal(number)
    assert process.wait(30) == 0
    assert process.stderr.read() == "thaw: ended\n"
    process.stderr.close()


def test_the_model_of_a_run_is_named_by_the_run_too(run: exported.Finished) -> None:
    with loaded(run.uri) as predictor:
        assert predictor.classes == ["green", "red"]
    with pytest.raises(JobError, match="is no exported model"), loaded(str(Path(run.model).parent)):
        pass
