"""A page that asks a model, for a quick look: no service. On loopback, unless somebody wants it otherwise.

GET /           the page
GET /model      {task, classes, model, max_bytes}
POST /predict   the bytes of a picture or a text, or a form with it -> {class, probabilities}, or {error}: a sentence;
                a form with several files -> {answers: [{file, …}]}, in their order
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import math
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from job.config import Data
from job.errors import JobError, headline
from job.export.predict import Predictor, loaded
from job.serving.uploads import NotAnUpload, uploads

MAX_BYTES: int = Data.model_fields["max_bytes"].default
"""Bytes of a picture or a text, at most."""
TIMEOUT = 30.0
"""Seconds that a client may leave the connection silent."""
AT_ONCE = 4
"""Uploads that are in memory at a time."""
URLENCODED = "application/x-www-form-urlencoded"
"""What curl calls all that it sends with --data-binary, and with -d, which leaves out line ends."""
LAST = 10.0
"""Seconds that an answer which is being computed still has when the server ends."""


def serve(model: str, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serves the page until Ctrl-C or SIGTERM. `model` is as of `loaded`, port 0 any that is free. Raises JobError."""
    with loaded(model) as predictor:
        try:
            server = Server(host, port, predictor, model, say)
        except (OSError, UnicodeError) as error:
            raise JobError(
                f"can't listen on {host}, port {port}: {error}. Name another --port (0: any that is free)."
            ) from error
        if not _is_loopback(str(server.server_address[0])):
            say(f"--host {host}: everybody who reaches this machine can ask this model; there is no password.")
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            say(f"serving {server.uri} (Ctrl-C ends it)")
            server.serve_forever()
        except (KeyboardInterrupt, SystemExit):
            say("ended")
        finally:
            signal.signal(signal.SIGTERM, before)
            server.server_close()
            server.asking.acquire(timeout=LAST)  # TensorFlow must not be at work when the process ends


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, predictor: Predictor, model: str, say: Callable[[str], None]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.predictor, self.model, self.host, self.say = predictor, model, host, say
        self.asking, self.uploads = threading.Lock(), threading.BoundedSemaphore(AT_ONCE)
        super().__init__((host, port), Handler)

    @property
    def uri(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.server_address[1]}/"

    @cached_property
    def page(self) -> bytes:
        return files("job.serving").joinpath("page.html").read_bytes()

    @cached_property
    def policy(self) -> str:
        """The page may run its own script, and talk to nobody but this server."""
        digests = {}
        for element in ("script", "style"):
            (content,) = re.findall(rf"<{element}>(.*?)</{element}>".encode(), self.page, re.DOTALL)
            digests[element] = base64.b64encode(hashlib.sha256(content).digest()).decode()
        return (
            f"default-src 'none'; script-src 'sha256-{digests['script']}'; style-src 'sha256-{digests['style']}'; "
            "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    def knows(self, name: str) -> bool:
        """Whether a browser that says it wants this host (of the Host header) was not led here by somebody else's name
        (DNS rebinding): an address, or a name that is this machine's.
        """
        try:
            ipaddress.ip_address(name.strip("[]"))
            return True
        except ValueError:
            return name.lower() in {"localhost", self.host.lower(), socket.gethostname().lower()}

    def ask(self, kind: str, content: bytes) -> tuple[HTTPStatus, dict[str, Any]]:
        """`kind`: the request's Content-Type."""
        try:
            with self.asking:  # one at a time: a large picture takes hundreds of megabytes
                sent = uploads(kind, content, texts=self.predictor.task == "text")
                answers = self.predictor.answers([one.content for one in sent])
        except NotAnUpload as error:
            return HTTPStatus.BAD_REQUEST, {"error": str(error)}
        except Exception as error:  # of TensorFlow, whatever it is: the page gets a sentence, and goes on
            self.say(headline(error))
            return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": f"The model failed: {headline(error)}."}
        told = [self._told(answer, kind) for answer in answers]
        if len(told) == 1:
            return told[0]
        status = HTTPStatus.OK if HTTPStatus.OK in [status for status, _ in told] else told[0][0]
        named = [{"file": one.name, **answer} for one, (_, answer) in zip(sent, told, strict=True)]
        return status, {"answers": named}

    def _told(self, answer: dict[str, Any], kind: str) -> tuple[HTTPStatus, dict[str, Any]]:
        if "error" in answer:
            what = "text" if self.predictor.task == "text" else "file"
            changed = " curl -d changes what it sends: use --data-binary, or -F file=@…" if kind == URLENCODED else ""
            return HTTPStatus.UNPROCESSABLE_ENTITY, {"error": f"This {what} can't be used: {answer['error']}.{changed}"}
        if not all(map(math.isfinite, answer["probabilities"].values())):
            return HTTPStatus.INTERNAL_SERVER_ERROR, {
                "error": "The model's answer is not a number: its weights are broken."
            }
        return HTTPStatus.OK, answer

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):  # a client that has gone is no news
            self.say(headline(error))


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "thaw", ""
    timeout = TIMEOUT

    def do_GET(self) -> None:
        if not self._is_ours():
            return
        path = urlsplit(self.path).path
        if path == "/":
            self._answer(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page)
        elif path == "/model":
            predictor = self.server.predictor
            self._json(
                HTTPStatus.OK,
                {
                    "task": predictor.task,
                    "classes": predictor.classes,
                    "model": self.server.model,
                    "max_bytes": MAX_BYTES,
                },
            )
        else:
            self._json(
                HTTPStatus.NOT_FOUND, {"error": "There is nothing here: the page is /, and /predict takes POST."}
            )

    def do_POST(self) -> None:
        if not self._is_ours() or not self._is_bounded():
            return
        with self.server.uploads:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if len(content) == int(self.headers["Content-Length"]):
                self._json(*self.server.ask(self.headers.get("Content-Type", ""), content))

    def handle_expect_100(self) -> bool:
        """A client that asks before it sends is told at once."""
        return self._is_ours() and self._is_bounded() and super().handle_expect_100()

    def _is_ours(self) -> bool:
        """Answers, where it is not, a request that some other site's page has made its visitor's browser send."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
        if not self.server.knows(name):
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, f"This server is not {host!r}: go to {self.server.uri}.")
        elif origin is not None and origin != f"http://{host}":
            self._refuse(HTTPStatus.FORBIDDEN, f"Pages of {origin} may not ask this model.")
        else:
            return True
        return False

    def _is_bounded(self) -> bool:
        length = self.headers.get("Content-Length", "")
        if urlsplit(self.path).path != "/predict":
            self._refuse(HTTPStatus.NOT_FOUND, "There is nothing here: POST goes to /predict.")
        elif not re.fullmatch(r"\d{1,18}", length) or "Transfer-Encoding" in self.headers:
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "The request must say how long it is (Content-Length).")
        elif int(length) > MAX_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"This is larger than {MAX_BYTES} bytes.")
        else:
            return True
        return False

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        """Without reading on: the connection ends."""
        self.close_connection = True
        self._json(status, {"error": sentence})

    def _json(self, status: HTTPStatus, document: dict[str, Any]) -> None:
        self._answer(status, "application/json", json.dumps(document).encode() + b"\n")

    def _answer(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(content))),
            ("Content-Security-Policy", self.server.policy),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not told of."""


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback
