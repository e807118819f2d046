"""A page that asks a model, for a quick look: no service. On loopback, unless somebody wants it otherwise.

GET /           the page
GET /model      {task, classes, model, max_bytes}
POST /predict   the bytes of a picture or a text, or a form with it -> {class, probabilities}, or {error}: a sentence;
                a form with several files -> {answers: [{file, …}]}, in their order
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import math
import re
import signal
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from job.config import Data
from job.errors import JobError, headline
from job.export.predict import Predictor, loaded

MAX_BYTES: int = Data.model_fields["max_bytes"].default
"""Bytes of a request, at most."""
LAST = 5
"""Seconds that requests which are being answered still have when the server ends."""
LONGEST = 120.0
"""Seconds in which a request must have come as a whole: who sends nothing must not hold its memory for ever."""
HEADERS = [("X-Frame-Options", "DENY"), ("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store")]
ADDRESS = re.compile(r"[\d.]+|\[[^]]+\]")
"""An IP address in a Host header: no DNS leads there."""
URLENCODED = "application/x-www-form-urlencoded"
"""What curl calls all that it sends with --data-binary, and with -d, which leaves out line ends."""
EXAMPLE = "curl -F file=@picture.jpg sends one"


def serve(model: str, host: str, port: int, *, say: Callable[[str], None]) -> None:
    """Serves the page until Ctrl-C or SIGTERM. `model` is as of `loaded`, port 0 any that is free. Raises JobError."""
    with loaded(model) as predictor, listen(host, port) as listener:
        address, port = listener.getsockname()[:2]
        uri = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        if not ipaddress.ip_address(address).is_loopback:
            say(f"--host {host}: everybody who reaches this machine can ask this model; there is no password.")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            application = Application(predictor, model=model, uri=uri, say=say)
            http_server(application, lambda: say(f"serving {uri} (Ctrl-C ends it)")).run([listener])
        except (KeyboardInterrupt, SystemExit):  # uvicorn ends what it has begun, and then raises the signal again
            say("ended")


def listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except (OSError, UnicodeError) as error:
        listener.close()
        advice = "Name another --port (0: any that is free)."
        raise JobError(f"can't listen on {host}, port {port}: {error}. {advice}") from error
    return listener


class HttpServer(uvicorn.Server):
    """Calls `started` once it answers, and a signal ends it in order."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell()


def http_server(application: Application, started: Callable[[], None] = lambda: None) -> HttpServer:
    """The same whatever else is installed. Nothing that clients do is logged."""
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    config = uvicorn.Config(
        application,
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_level="critical",
        headers=HEADERS,
        timeout_graceful_shutdown=LAST,
    )
    return HttpServer(config, started)


class Application:
    """Asks the model one thing at a time, in a thread of its own, which Python waits for when the process ends."""

    def __init__(self, predictor: Predictor, *, model: str, uri: str, say: Callable[[str], None]) -> None:
        self._predictor, self._model, self._uri, self._say = predictor, model, uri, say
        self._thread = ThreadPoolExecutor(1)
        page = StaticFiles(packages=[("job.serving", "page")], html=True)
        self._routes = Starlette(
            routes=[Route("/model", self.model), Route("/predict", self.predict, methods=["POST"]), Mount("/", page)],
            exception_handlers={HTTPException: _refused, ClientDisconnect: _left, Exception: self._failed},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._refusal(Request(scope)) or self._routes)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        """The answer to a request that another site's page has made its visitor's browser send: to a name of its own
        that leads here (DNS rebinding), or as itself. Any address is fine, which TrustedHostMiddleware can't be told.
        """
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        name = re.sub(r":\d+$", "", host.lower())
        own = ("localhost", urlsplit(self._uri).hostname, socket.gethostname().lower())
        if name not in own and not ADDRESS.fullmatch(name):
            return _json(421, {"error": f"This server is not {host!r}: go to {self._uri}."})
        if origin not in (None, f"http://{host}"):
            return _json(403, {"error": f"Pages of {origin} may not ask this model."})
        return None

    async def model(self, request: Request) -> Response:
        task, classes = self._predictor.task, self._predictor.classes
        return _json(200, {"task": task, "classes": classes, "model": self._model, "max_bytes": MAX_BYTES})

    async def predict(self, request: Request) -> Response:
        length, kind = request.headers.get("content-length"), request.headers.get("content-type", "")
        if length is None or "transfer-encoding" in request.headers:
            raise HTTPException(411, "The request must say how long it is (Content-Length).")
        if int(length) > MAX_BYTES:
            raise HTTPException(413, f"This is larger than {MAX_BYTES} bytes.")
        is_form = kind.lower().startswith("multipart/form-data")
        try:
            async with asyncio.timeout(LONGEST):
                uploads = await self._files(request) if is_form else [("", await request.body())]
        except TimeoutError as error:
            raise HTTPException(408, f"The request did not come within {LONGEST:g} seconds.") from error
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, uploads, kind)

    async def _files(self, request: Request) -> list[tuple[str, bytes]]:
        """The names and contents of a form's files; where texts are asked about, of its plain fields as well."""
        files = []
        async with request.form(max_part_size=MAX_BYTES) as form:
            for name, value in form.multi_items():
                if not isinstance(value, str):
                    files.append((value.filename or name, await value.read()))
                elif self._predictor.task == "text":
                    files.append((name, value.encode()))
                else:
                    raise HTTPException(400, f"The field {name!r} is no file: {EXAMPLE} (with the @).")
        if not files:
            raise HTTPException(400, f"This form is empty, or cut short: {EXAMPLE}.")
        return files

    def _answer(self, uploads: list[tuple[str, bytes]], kind: str) -> Response:
        """`kind`: the request's Content-Type."""
        answers = self._predictor.answers([content for _, content in uploads])
        replies = [self._reply(answer, kind) for answer in answers]
        if len(replies) == 1:
            return _json(*replies[0])
        statuses = [status for status, _ in replies]
        documents = [{"file": name, **reply} for (name, _), (_, reply) in zip(uploads, replies, strict=True)]
        return _json(200 if 200 in statuses else statuses[0], {"answers": documents})

    def _reply(self, answer: dict[str, Any], kind: str) -> tuple[int, dict[str, Any]]:
        """The status, and the document."""
        if "error" in answer:
            what = "text" if self._predictor.task == "text" else "file"
            changed = " curl -d changes what it sends: use --data-binary, or -F file=@…" if kind == URLENCODED else ""
            return 422, {"error": f"This {what} can't be used: {answer['error']}.{changed}"}
        if not all(map(math.isfinite, answer["probabilities"].values())):
            return 500, {"error": "The model's answer is not a number: its weights are broken."}
        return 200, answer

    async def _failed(self, request: Request, error: Exception) -> Response:
        self._say(headline(error))
        return _json(500, {"error": f"The model failed: {headline(error)}."})


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code in (404, 405):
        return _json(404, {"error": "There is nothing here: the page is /, and /predict takes POST."})
    return _json(error.status_code, {"error": error.detail})


async def _left(request: Request, error: Exception) -> Response:
    return Response()  # nobody is there to read it


def _json(status: int, document: dict[str, Any]) -> Response:
    return Response(json.dumps(document) + "\n", status, media_type="application/json")
