"""Damage to files, as disks, networks, editors and programs do it: each a function of a random generator."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable

from job.data.sources.tfrecord import framed

Mutation = Callable[[random.Random, bytes], bytes]
BLOWN = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", bytes(4), b"\xff" * 8, b"\x7f" + b"\xff" * 7)
"""Lengths that no file has."""
SIZES = (b"\x80" + b"\x7f" * 11, b"\x80" + bytes(5) + b"\xff" * 6, b"\xff" * 12, b"77777777777\0", b"0" * 12)
"""The same in the header of a file in an archive: 2^87, 2^48, -1, 8 GiB and none."""
TEXTS: tuple[bytes, ...] = (
    b"\xff",
    b"\xef\xbb\xbf",
    b"\0",
    b"\r\n",
    b'"',
    b"'",
    b"[" * 300,
    b"{" * 300,
    b"1" * 5000,
    b"1e999",
    b"-1",
)
TEXTS += (b"NaN", b"\xed\xa0\x80", b"\\ud800", b": &a [*a]", b"!!python/object:os.system", b"\t", b",,,,", b"\x1b[31m")
"""What a text should not have in it."""


def mutate(generator: random.Random, content: bytes) -> bytes:
    for _ in range(generator.choice((1, 1, 1, 2, 4))):
        content = generator.choice(MUTATIONS)(generator, content)
    return content


def _place(generator: random.Random, content: bytes) -> int:
    """One of three is near the beginning or the end, where headers and indexes are."""
    last = len(content)
    near = (min(last, 300), last - generator.randint(0, min(last, 300)), last)
    return generator.randint(0, generator.choice(near))


def _flip(generator: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(generator.choice((1, 1, 3, 30)) if content else 0):
        changed[min(_place(generator, content), len(content) - 1)] ^= 1 << generator.randrange(8)
    return bytes(changed)


def _truncate(generator: random.Random, content: bytes) -> bytes:
    return content[: _place(generator, content)]


def _behead(generator: random.Random, content: bytes) -> bytes:
    return content[_place(generator, content) :]


def _blow_up(generator: random.Random, content: bytes) -> bytes:
    at, length = _place(generator, content), generator.choice(BLOWN)
    return content[:at] + length + content[at + len(length) :]


def _insert(generator: random.Random, content: bytes) -> bytes:
    at = _place(generator, content)
    size = generator.choice((1, 7, 512, 5000))
    return content[:at] + generator.choice((bytes(size), generator.randbytes(size), *TEXTS)) + content[at:]


def _zeros(generator: random.Random, content: bytes) -> bytes:
    at, size = _place(generator, content), generator.choice((1, 8, 512, 4096))
    return content[:at] + bytes(size) + content[at + size :]


def _double(generator: random.Random, content: bytes) -> bytes:
    begin, end = sorted((_place(generator, content), _place(generator, content)))
    return content[:end] + content[begin:]


def _cut_out(generator: random.Random, content: bytes) -> bytes:
    begin, end = sorted((_place(generator, content), _place(generator, content)))
    return content[:begin] + content[end:]


def _splice(generator: random.Random, content: bytes) -> bytes:
    """The middle of it somewhere else, over what is there."""
    begin, at = _place(generator, content), _place(generator, content)
    piece = content[begin : begin + generator.choice((4, 64, 512, 3000))]
    return content[:at] + piece + content[at + len(piece) :]


MUTATIONS: tuple[Mutation, ...] = (
    *(_flip, _truncate, _behead, _blow_up, _insert),
    *(_zeros, _double, _cut_out, _splice),
)


def whole(generator: random.Random, content: bytes) -> bytes:
    """Damage that comes after all checksums were written."""
    return mutate(generator, content)


def tar_headers(generator: random.Random, content: bytes) -> bytes:
    """Damage to headers whose checksums are right."""
    changed = bytearray(content)
    blocks = [at for at in range(0, len(content) - 511, 512) if content[at + 257 : at + 262] == b"ustar"]
    for at in generator.sample(blocks, min(len(blocks), 2)):
        header = bytearray(mutate(generator, content[at : at + 512])[:512].ljust(512, b"\0"))
        header[156] = generator.choice(b"\x000123456LKxgXS7") if generator.random() < 0.5 else header[156]
        header[124:136] = generator.choice(SIZES) if generator.random() < 0.3 else header[124:136]
        header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))
        changed[at : at + 512] = header
    return bytes(changed)


def records(generator: random.Random, content: bytes) -> bytes:
    """Damage to messages whose checksums are right."""
    at, found = 0, list[bytes]()
    while at < len(content):
        length = int.from_bytes(content[at : at + 8], "little")
        found.append(content[at + 12 : at + 12 + length])
        at += length + 16
    return b"".join(framed(mutate(generator, one) if generator.random() < 0.5 else one) for one in found)


def within(expand: Callable[[bytes], bytes], compress: Callable[[bytes], bytes], mutation: Mutation) -> Mutation:
    """Damage to what is then compressed."""
    return lambda generator, content: compress(mutation(generator, expand(content)))


def compressed(mutation: Mutation) -> Mutation:
    return within(gzip.decompress, lambda content: gzip.compress(content, 1), mutation)


def png_chunks(generator: random.Random, content: bytes) -> bytes:
    """Damage to the chunks of a PNG whose checksums are right; any other damage to what is none."""
    if not content.startswith(b"\x89PNG"):
        return mutate(generator, content)
    at, found = 8, content[:8]
    while at + 8 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        kind, chunk = content[at + 4 : at + 8], content[at + 8 : at + 8 + size]
        chunk = mutate(generator, chunk)[:200_000] if generator.random() < 0.4 else chunk
        found += len(chunk).to_bytes(4, "big") + kind + chunk + zlib.crc32(kind + chunk).to_bytes(4, "big")
        at += size + 12
    return found
