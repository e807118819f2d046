"""A proxy that does to HTTP what networks and stores do at night: errors, resets, short or changed bodies, delays.

    with faulty(endpoint, seed=1, unavailable=0.05, truncated=0.02) as proxy:
        ...  # ask proxy.url; what was done to it is in proxy.counts

As a process: `python -m tests.support.faults http://127.0.0.1:5000 unavailable=0.05 truncated=0.02`.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import struct
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

ANSWERS = {
    "internal_error": (500, "InternalError", "We encountered an internal error. Please try again."),
    "unavailable": (503, "ServiceUnavailable", "Service is unable to handle request."),
    "slow_down": (503, "SlowDown", "Please reduce your request rate."),
    "expired": (400, "ExpiredToken", "The provided token has expired."),
}
"""Answered without asking the server: status, code, message."""
KINDS = (*ANSWERS, "reset", "lost", "truncated", "flipped", "late", "dribbled")
"""`reset`: the connection ends before the server is asked; `lost`: after it did what it was asked to.

`truncated`: half of the body, though Content-Length says all; `flipped`: one bit of the body is another;
`late`: the answer comes after a pause; `dribbled`: its body comes in ten pieces, with pauses between them.
`flipped+truncated`: both.
"""
Only = Callable[[str, str], bool]
"""Whether a request (its method, and its target as sent) may get a fault."""


def any_request(method: str, target: str) -> bool:
    return True


def object_read(method: str, target: str) -> bool:
    return method == "GET" and "list-type=" not in target


def in_a_folder(method: str, target: str) -> bool:
    """Google's client also asks for its bucket, in a thread of its own."""
    return "folder" in target or "/upload/" in target


class Proxy:
    def __init__(self, upstream: str, seed: int, only: Only, pause: float, rates: dict[str, float]) -> None:
        unknown = set(rates) - set(KINDS)
        if unknown:
            raise ValueError(f"no such fault: {', '.join(unknown)}; there are {', '.join(KINDS)}")
        where = urlsplit(upstream)
        self.upstream, self.only, self.pause, self.rates = (where.hostname, where.port), only, pause, rates
        self.next: deque[str] = deque()
        """Faults of the next requests, before any by chance; "" for none."""
        self.counts: Counter[str] = Counter()
        self.asked: list[str] = []
        """Each request that may get a fault: method and target."""
        self._random = random.Random(seed)
        self.url = ""

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(self.upstream)
        try:
            while await self._answer(reader, writer, link):
                pass
        except (OSError, EOFError, asyncio.CancelledError):  # the client went away, or the proxy ends
            pass
        finally:
            link.close()
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link) -> bool:
        """One request; whether the connection goes on."""
        head = await reader.readuntil(b"\r\n\r\n")
        if _header(head, b"expect"):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"expect:"))
        body = await _body(reader, head)
        method, target = head.split(b" ", 2)[:2]
        fault = self._choose(method.decode(), target.decode("latin-1"))
        if fault == "late":
            self.counts[fault] += 1
            await asyncio.sleep(self.pause)
        elif fault == "reset":
            return self._cut(writer, fault)
        elif fault in ANSWERS:
            self.counts[fault] += 1
            writer.write(_error(fault, method))
            return True
        head, body = await link.ask(head + body, method)
        if fault == "lost":
            return self._cut(writer, fault)
        if len(body) > 3 and "flipped" in fault and _header(head, b"content-length"):
            self.counts["flipped"] += 1
            at = len(body) // 4
            body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        if len(body) > 1 and "truncated" in fault:
            self.counts["truncated"] += 1
            writer.write(head + body[: len(body) // 2])
            return False
        if len(body) > 1 and fault == "dribbled":
            self.counts[fault] += 1
            writer.write(head)
            step = -(-len(body) // 10)
            for start in range(0, len(body), step):
                writer.write(body[start : start + step])
                await asyncio.sleep(self.pause / 10)
        else:
            writer.write(head + body)
        await writer.drain()
        return _header(head, b"connection").lower() != b"close"

    def _choose(self, method: str, target: str) -> str:
        if not self.only(method, target):
            return ""
        self.asked.append(f"{method} {target}")
        if self.next:
            return self.next.popleft()
        chance = self._random.random()
        for kind, rate in self.rates.items():
            if chance < rate:
                return kind
            chance -= rate
        return ""

    def _cut(self, writer: asyncio.StreamWriter, fault: str) -> bool:
        self.counts[fault] += 1
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return False


class _Link:
    """A connection to the server, made when it is needed."""

    def __init__(self, address: tuple[str | None, int | None]) -> None:
        self._address, self._streams = address, None

    async def ask(self, request: bytes, method: bytes) -> tuple[bytes, bytes]:
        """The answer's head and its body, as it was sent."""
        if self._streams:
            with suppress(OSError, EOFError):  # the server ended a connection that had nothing to do
                return await self._ask(request, method)
            self.close()
        self._streams = await asyncio.open_connection(*self._address, limit=1 << 20)
        return await self._ask(request, method)

    async def _ask(self, request: bytes, method: bytes) -> tuple[bytes, bytes]:
        reader, writer = self._streams
        writer.write(request)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        while head[9:10] == b"1":
            head = await reader.readuntil(b"\r\n\r\n")
        if method == b"HEAD" or head[9:12] in (b"204", b"304"):
            body = b""
        elif _header(head, b"content-length") or _header(head, b"transfer-encoding"):
            body = await _body(reader, head)
        else:
            body = await reader.read()
            head = head[:-2] + b"Connection: close\r\n\r\n"
        if _header(head, b"connection").lower() == b"close":
            self.close()
        return head, body

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()
            self._streams = None


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n"):
        key, colon, value = line.partition(b":")
        if colon and key.lower() == name:
            return value.strip()
    return b""


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """With its chunks and trailers as they were sent."""
    if _header(head, b"transfer-encoding").lower() != b"chunked":
        return await reader.readexactly(int(_header(head, b"content-length") or 0))
    parts = []
    while not parts or int(parts[-1].partition(b";")[0], 16):
        if parts:
            parts.append(await reader.readexactly(int(parts[-1].partition(b";")[0], 16) + 2))
        parts.append(await reader.readuntil(b"\r\n"))
    while parts[-1] != b"\r\n":
        parts.append(await reader.readuntil(b"\r\n"))
    return b"".join(parts)


def _error(fault: str, method: bytes) -> bytes:
    status, code, message = ANSWERS[fault]
    body = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    shown = "" if method == b"HEAD" else body
    return (
        f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n{shown}"
    ).encode()


@contextmanager
def faulty(
    upstream: str, *, seed: int = 0, only: Only = any_request, pause: float = 1.0, **rates: float
) -> Iterator[Proxy]:
    """A proxy in a thread of its own. `rates`: the chance of each kind; `pause`: seconds, of `late` and `dribbled`."""
    proxy, loop, started = Proxy(upstream, seed, only, pause, rates), asyncio.new_event_loop(), threading.Event()

    async def run() -> None:
        server = await proxy.start()
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            server.close()

    def serve() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        for other in asyncio.all_tasks(loop):
            other.cancel()
            with suppress(asyncio.CancelledError):
                loop.run_until_complete(other)
        loop.close()

    task = loop.create_task(run())
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    if not started.wait(10):
        raise RuntimeError("the proxy did not start")
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)


def main() -> None:
    """Prints the address, and at SIGTERM or Ctrl-C what was injected."""
    rates = {kind: float(rate) for kind, _, rate in (argument.partition("=") for argument in sys.argv[2:])}
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    with faulty(sys.argv[1], **rates) as proxy:
        print(proxy.url, flush=True)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
        print(json.dumps(proxy.counts), flush=True)


if __name__ == "__main__":
    main()
