"""A Kubernetes API server on loopback: some objects of one namespace, with watches, and faults on demand."""

from __future__ import annotations

import copy
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Object = dict[str, Any]
PATH = re.compile(r"/(?:api/v1|apis/ray\.io/v1)/namespaces/([^/]+)/([a-z]+)(?:/([^/]+))?")
DROP = 0
"""In place of a status: the connection ends without an answer."""
LOST = -1
"""The request is done, and its answer is lost."""
BREAK = -2
"""The request is done, and its answer breaks off."""


class Kube:
    """What the server holds, and what it has been asked."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.objects: dict[tuple[str, str], Object] = {}
        self.version, self.compacted = 100, 0
        self.log: list[tuple[int, str, str, Object]] = []
        """(version, plural, type, object)."""
        self.requests: list[tuple[str, str]] = []
        """(method, plural); a watch is `WATCH`."""
        self.answers: list[tuple[str, str, int, dict[str, str], Any]] = []
        """Each is used once, before anything else: (method, plural, status, headers, body)."""
        self.tokens = {"token"}
        self.namespaces, self.has_kuberay = {"thaw"}, True
        self.watches: list[socket.socket] = []
        """Connections of all that have begun, in their order."""
        self.ending = 0
        """Raised to end all watches in order."""
        self.on_request: Callable[[str, str], None] = lambda method, plural: None
        self.stop: Callable[[], None] = lambda: None
        """The server goes away: connections are refused."""
        self.start: Callable[[], None] = lambda: None

    def answer(self, method: str, plural: str, status: int, body: Any = None, **headers: str) -> None:
        """What the next such request gets."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.append((method, plural, status, named, body))

    def put(self, plural: str, item: Object, kind: str = "MODIFIED") -> Object:
        with self.changed:
            self.version += 1
            item = copy.deepcopy(item)
            item["metadata"]["resourceVersion"] = str(self.version)
            item["metadata"].setdefault("uid", f"uid-{self.version}")
            key = plural, item["metadata"]["name"]
            if kind == "DELETED":
                self.objects.pop(key, None)
            else:
                self.objects[key] = item
            self.log.append((self.version, plural, kind, item))
            self.changed.notify_all()
            return item

    def edit(self, plural: str, name: str, change: Object) -> Object:
        with self.changed:
            return self.put(plural, merged(self.objects[plural, name], change))

    def remove(self, plural: str, name: str) -> None:
        with self.changed:
            self.put(plural, self.objects[plural, name], "DELETED")

    def get(self, plural: str, name: str) -> Object:
        return self.objects[plural, name]

    def break_watches(self) -> None:
        """As a network does, or a load balancer that ends what is idle."""
        with self.changed:
            for connection in self.watches:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def expire(self) -> None:
        """Forgets what happened, and ends the watches: whoever wants to go on has to list."""
        with self.changed:
            self.compacted = self.version
            self.ending += 1
            self.changed.notify_all()

    def wait_for(self, condition: Callable[[], Any], seconds: float = 20) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, seconds), self.requests


def merged(target: Any, patch: Object) -> Object:
    """RFC 7396."""
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value) if isinstance(value, dict) else value
    return result


@contextmanager
def kubernetes() -> Iterator[tuple[Kube, str]]:
    """The server and its URL."""
    kube = Kube()
    handler = type("Handler", (_Handler,), {"kube": kube})
    serving: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(port: int) -> int:
        server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        serving.append((server, thread))
        return int(server.server_port)

    def stop() -> None:
        while serving:
            server, thread = serving.pop()
            server.shutdown()
            server.server_close()
            thread.join()
            kube.break_watches()

    port = start(0)
    kube.stop, kube.start = stop, lambda: start(port) and None
    try:
        yield kube, f"http://127.0.0.1:{port}"
    finally:
        stop()


def kubeconfig(url: str) -> str:
    """A file for KUBECONFIG, whose current context is this server."""
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": {"token": "token"}}],
    }
    return yaml.safe_dump(config)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kube: Kube

    def log_message(self, *_: Any, **__: Any) -> None:
        pass

    def _do(self) -> None:
        kube, url = self.kube, urlsplit(self.path)
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"null")
        match, query = PATH.fullmatch(url.path), {name: values[0] for name, values in parse_qs(url.query).items()}
        if not match:
            kube.requests.append((self.command, self.path))
            return self._send(404, "404 page not found\n", {})
        namespace, plural, name = match.groups()
        method = "WATCH" if "watch" in query else self.command
        with kube.changed:
            kube.requests.append((method, plural))
            kube.changed.notify_all()
            kube.on_request(method, plural)
            scripted = next((a for a in kube.answers if a[:2] == (method, plural)), None)
            if scripted:
                kube.answers.remove(scripted)
        if scripted and scripted[2] == DROP:
            return self._drop()
        if scripted and scripted[2] not in (LOST, BREAK):
            return self._send(scripted[2], scripted[4], scripted[3])
        if self.headers.get("authorization", "").removeprefix("Bearer ") not in kube.tokens:
            return self._refuse(401, "Unauthorized")
        if plural == "rayjobs" and not kube.has_kuberay:
            return self._send(404, "404 page not found\n", {})
        if method == "WATCH":
            return self._watch(plural, query)
        with kube.changed:
            status, answer = self._answer(namespace, plural, name, query, body)
        if scripted and scripted[2] == BREAK:
            return self._send(status, answer, {"Content-Length": "100000"}) or self._drop()
        return self._drop() if scripted else self._send(status, answer, {})

    do_GET = do_POST = do_PATCH = do_DELETE = _do

    def _answer(self, namespace: str, plural: str, name: str | None, query: dict[str, str], body: Any) -> Any:
        kube = self.kube
        if self.command == "POST":
            name = body["metadata"]["name"]
            if namespace not in kube.namespaces:
                return 404, _status(404, f'namespaces "{namespace}" not found', kind="namespaces", name=namespace)
            if (plural, name) in kube.objects:
                return 409, _status(409, f'{plural} "{name}" already exists', kind=plural, name=name)
            return 201, kube.put(plural, body, "ADDED")
        if name is None:
            items = [o for (kind, _), o in kube.objects.items() if kind == plural and _selected(o, query)]
            return 200, {"items": items, "metadata": {"resourceVersion": str(kube.version)}}
        if (plural, name) not in kube.objects:
            return 404, _status(404, f'{plural} "{name}" not found', kind=plural, name=name)
        if self.command == "PATCH":
            assert self.headers["Content-Type"] == "application/merge-patch+json"
            return 200, kube.edit(plural, name, body)
        if self.command == "DELETE":
            kube.remove(plural, name)
            return 200, _status(200, "deleted")
        return 200, kube.objects[plural, name]

    def _watch(self, plural: str, query: dict[str, str]) -> None:
        kube, version = self.kube, int(query["resourceVersion"])
        if version < kube.compacted:
            return self._refuse(410, "too old resource version")
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        with kube.changed:
            kube.watches.append(self.connection)
            ending = kube.ending
            kube.changed.notify_all()
        with suppress(OSError):
            while True:
                with kube.changed:
                    while not (kube.ending > ending or (kube.log and kube.log[-1][0] > version)):
                        kube.changed.wait()
                    events = [entry for entry in kube.log if entry[0] > version]
                    ended, version = kube.ending > ending, kube.version
                if ended:
                    return self.wfile.write(b"0\r\n\r\n")  # type: ignore[return-value]
                for _, what, kind, item in events:
                    if what == plural and _selected(item, query):
                        line = json.dumps({"type": kind, "object": item}).encode() + b"\n"
                        middle = len(line) // 2
                        for part in (line[:middle], line[middle:]):  # a chunk need not be a line
                            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                        self.wfile.flush()

    def _refuse(self, status: int, message: str) -> None:
        self._send(status, _status(status, message), {})

    def _send(self, status: int, body: Any, headers: dict[str, str]) -> None:
        content = body.encode() if isinstance(body, str) else json.dumps(body or {}).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _drop(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


def _status(code: int, message: str, **details: str) -> Object:
    return {"kind": "Status", "code": code, "message": message, "details": details}


def _selected(item: Object, query: dict[str, str]) -> bool:
    metadata = item["metadata"]
    for selector in query.get("labelSelector", "").split(","):
        name, _, value = selector.partition("=")
        if selector and metadata.get("labels", {}).get(name) != value:
            return False
    for selector in query.get("fieldSelector", "").split(","):
        path, _, value = selector.partition("=")
        node: Any = item
        for part in path.split("."):
            node = node.get(part, {}) if path else value
        if selector and node != value:
            return False
    return True
