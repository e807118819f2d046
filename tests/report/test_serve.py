"""The server of `thaw serve`, asked over HTTP: what it answers, whom it refuses, and how it ends."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from job.errors import JobError
from job.report import serve as serving
from job.report.predict import loaded
from job.report.serve import Server, serve
from support import exported
from support.cases import slow
from support.images import encode, picture
from support.kinds import READ, REFUSED


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> exported.Finished:
    return exported.finished_pictures(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def server(run: exported.Finished) -> Iterator[Server]:
    with loaded(str(run.model)) as predictor:
        server = Server("127.0.0.1", 0, predictor, str(run.model), lambda line: None)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
        server.server_close()


def ask(
    server: Server, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, Any, http.client.HTTPMessage]:
    host, port = server.server_address[:2]
    with closing(http.client.HTTPConnection(str(host), port, timeout=60)) as connection:
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
    status, content, headers = ask(server, "POST", "/predict", b"x" * 1001)
    assert (status, json.loads(content)) == (413, {"error": "This is larger than 1000 bytes."})
    assert headers["Connection"] == "close"
    host, port = server.server_address[:2]
    with socket.create_connection((str(host), port), timeout=30) as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000000\r\nExpect: 100-continue\r\n\r\n"
        )
        assert client.recv(1000).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("length", ["-1", "1e3", "", "9" * 30])
def test_a_length_that_is_none_is_refused(length: str, server: Server) -> None:
    assert ask(server, "POST", "/predict", headers={"Content-Length": length})[0] == 411


def test_the_page_may_talk_to_nobody_else(server: Server) -> None:
    status, page, headers = ask(server, "GET", "/")
    assert status == 200
    assert b"http://" not in page
    assert b"https://" not in page
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "connect-src 'self'" in headers["Content-Security-Policy"]
    assert ask(server, "GET", "/../../etc/passwd")[0] == 404


def test_an_answer_that_is_not_a_number_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"class": "red", "probabilities": {"red": float("nan"), "green": 0.5}}
    monkeypatch.setattr(server.predictor, "answers", lambda encoded: [broken])
    status, content, _ = ask(server, "POST", "/predict", b"x")
    assert status == 500
    assert "not a number" in json.loads(content)["error"]


def test_a_port_that_is_taken_is_one_sentence(server: Server, run: exported.Finished) -> None:
    port = server.server_address[1]
    with pytest.raises(JobError, match=rf"can't listen on 127\.0\.0\.1, port {port}: .*Name another --port"):
        serve(str(run.model), "127.0.0.1", port, lambda line: None)


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
