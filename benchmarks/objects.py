"""A server of a folder's files as S3 gives objects (GET, HEAD, ListObjectsV2), and as Cloud Storage does (downloads,
lists), each object after a delay.

python benchmarks/objects.py FOLDER [--delay 0.15]

It prints its address. The folder is the bucket, of whatever name; nothing is written, and nobody is asked who they are.
It keeps the files in memory and takes as little of the processor as can be, so that whoever reads is what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import google_crc32c

PAGE = 1000
GCS = ("/download/storage/v1/b/", "/storage/v1/b/")
"""The beginnings of the paths of Cloud Storage."""
NOW = "2026-01-01T00:00:00.000Z"


@contextmanager
def served(folder: Path, delay: float = 0.0) -> Iterator[str]:
    """The address of a server in a process of its own."""
    command = [sys.executable, __file__, str(folder), "--delay", str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


class Connection(asyncio.Protocol):
    """Requests without a body, one after another."""

    def __init__(self, objects: dict[str, tuple[bytes, bytes]], delay: float) -> None:
        self._objects, self._delay, self._received = objects, delay, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            method, target = head.split(b" ", 2)[:2]
            address = urlsplit(target.decode())
            asked = {name: values[0] for name, values in parse_qs(address.query).items()}
            path, key = address.path, unquote(address.path).lstrip("/").partition("/")[2]
            if path.startswith(GCS):
                key = unquote(path.rpartition("/o/")[2])
            if path.endswith("/o"):
                answer, key = self._json_listing(asked), ""
            elif key:
                answer = self._answer(key, method == b"HEAD")
            else:
                answer = self._listing(asked)
            if key and method == b"GET" and self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._write, answer)
            else:
                self._write(answer)

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)

    def _answer(self, key: str, head: bool) -> bytes:
        if key not in self._objects:
            return _response(b"404 Not Found", b"", b"" if head else b"<Error><Code>NoSuchKey</Code></Error>")
        headers, content = self._objects[key]
        return _response(b"200 OK", headers, content, head)

    def _listing(self, asked: dict[str, str]) -> bytes:
        after, prefix = asked.get("continuation-token", ""), asked.get("prefix", "")
        keys = [key for key in self._objects if key.startswith(prefix) and key > after]
        entries = [
            f"<Contents><Key>{escape(key)}</Key><LastModified>{NOW}</LastModified>"
            f"<ETag>{self._objects[key][0].split()[1].decode()}</ETag><Size>{len(self._objects[key][1])}</Size></Contents>"
            for key in keys[:PAGE]
        ]
        more = len(keys) > PAGE
        token = f"<NextContinuationToken>{escape(keys[PAGE - 1])}</NextContinuationToken>" if more else ""
        document = f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(entries)}"
        return _response(b"200 OK", b"", f"<ListBucketResult>{document}</ListBucketResult>".encode())

    def _json_listing(self, asked: dict[str, str]) -> bytes:
        after, prefix = asked.get("pageToken", ""), asked.get("prefix", "")
        keys = [key for key in self._objects if key.startswith(prefix) and key > after]
        items = [
            {"name": key, "size": str(len(self._objects[key][1])), "generation": "1", "updated": NOW}
            for key in keys[:PAGE]
        ]
        more = {"nextPageToken": keys[PAGE - 1]} if len(keys) > PAGE else {}
        headers = b"Content-Type: application/json\r\n"
        return _response(b"200 OK", headers, json.dumps({"items": items, **more}).encode())


def _response(status: bytes, headers: bytes, content: bytes, head: bool = False) -> bytes:
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, headers, len(content), b"" if head else content)


def _objects(folder: Path) -> dict[str, tuple[bytes, bytes]]:
    """Headers and content by key, in the order of the keys."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
        crc = base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()
        headers = f'ETag: "{etag}"\r\nLast-Modified: {formatdate(0, usegmt=True)}\r\nX-Goog-Hash: crc32c={crc}\r\n'
        found[path.relative_to(folder).as_posix()] = headers.encode(), content
    return dict(sorted(found.items()))


async def _serve(folder: Path, delay: float) -> None:
    objects = _objects(folder)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(objects, delay), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before the content of an object is sent")
    options = parser.parse_args()
    asyncio.run(_serve(options.folder, options.delay))


if __name__ == "__main__":
    main()
