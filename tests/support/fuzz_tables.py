"""Label files, texts and files of vectors, mutated from seeds: each is read, or refused with an error of Thaw's."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from job.config import Data
from job.data.sources.keys import resolve_keys
from job.data.sources.table import read_table
from job.data.text import inspect_text
from job.errors import ThawError
from job.storage import open_store
from job.text.vector_file import VectorFile

CSV = 'key,label,größe\n"a, 1.jpg",cat,1\nb.jpg,"the ""dog""\nof two lines",2\nkät/c.jpg,dog,3\n'
RECORDS = [{"key": f"{at}.jpg", "label": at % 2, "größe": at / 2} for at in range(5)]
WORDS = "the 0.1 -0.2 3e-05\ncat 1.0 2.0 3.0\nn't 4 5 6.5\n"


def workbook() -> bytes:
    """As Excel begins one."""
    return zip_of({"[Content_Types].xml": b"<Types/>", "xl/workbook.xml": b"<workbook/>"})


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def binary_vectors(words: int = 5, dimensions: int = 4) -> bytes:
    """In word2vec's binary form."""
    values = np.random.default_rng(0).normal(size=(words, dimensions)).astype("<f4")
    return b"%d %d\n" % (words, dimensions) + b"".join(b"word%d " % at + row.tobytes() for at, row in enumerate(values))


def table_seeds() -> list[bytes]:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(RECORDS), buffer)
    lines = "".join(json.dumps(row) + "\n" for row in RECORDS)
    columns = {name: [row[name] for row in RECORDS] for name in RECORDS[0]}
    return [
        *(CSV.encode(encoding) for encoding in ("utf-8-sig", "utf-16", "cp1252", "utf-16-le")),
        f"sep=;\n{CSV.replace(',', ';')}".encode(),
        *(pack(CSV.encode()) for pack in (gzip.compress, bz2.compress, lzma.compress)),
        *(document.encode() for document in (lines, json.dumps(RECORDS), json.dumps(columns))),
        zip_of({"labels.csv": CSV.encode()}),
        workbook(),
        buffer.getvalue(),
    ]


def vector_seeds() -> list[bytes]:
    text = WORDS.encode()
    return [
        text,
        b"3 3\n" + text.replace(b" ", b"\t"),
        gzip.compress(text),
        zip_of({"glove.txt": text}),
        zip_of({"a.txt": text, "b.txt": text}),
        binary_vectors(),
        gzip.compress(binary_vectors()),
    ]


def text_seeds() -> list[bytes]:
    return [CSV.encode(encoding) for encoding in ("utf-8", "utf-16", "cp1252", "utf-16-be", "utf-32")]


def mutated(content: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """A change, or up to four: flipped bits, cuts, pieces of another file, quotes, zeros, another encoding."""
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        at = draw.randrange(len(content) + 1)
        end = min(len(content), at + draw.randint(0, 16))
        kind = draw.randrange(8)
        if kind == 0 and at < len(content):
            content = content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]
        elif kind == 1:
            content = content[:at]
        elif kind == 2:
            other = draw.choice(others)
            content = content[:at] + other[draw.randrange(len(other)) :]
        elif kind == 3:
            content = (
                content[:at] + draw.choice([b'"', b'""', b"\n", b"\r", b",", b";", b"\0", b" ", b"\xff"]) + content[at:]
            )
        elif kind == 4:
            content = content[:at] + bytes(end - at) + content[end:]
        elif kind == 5:
            content = content[:at] + content[end:]
        elif kind == 6:
            content = content[:end] + content[at:]
        else:
            content = content.decode("latin-1").encode(draw.choice(["utf-8", "utf-16", "utf-16-le", "utf-32"]))
    return content


def mutations(seeds: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """The seeds themselves, and `count` files made of them; the same each time."""
    draw = random.Random(seed)
    yield from seeds
    for _ in range(count):
        yield mutated(draw.choice(seeds), seeds, draw)


def check_table(content: bytes, folder: Path) -> bool:
    """Whether it was read. Raises what is no error of Thaw's."""
    name = ("labels.csv", "labels.json", "labels.parquet")[len(content) % 3]
    (folder / name).write_bytes(content)
    source = open_store(f"file://{folder}/")
    encoding = (None, None, None, "cp1252", "utf-16", "shift_jis")[len(content) % 6]
    data = Data.model_validate({"source": source.uri, "layout": "table", "table": {"file": name}, "encoding": encoding})
    try:
        rows = read_table(data, source).rows
        keys = pa.array(sorted({key for key in rows["key"].to_pylist() if key}), pa.string())
        resolve_keys(keys, lambda: [pa.array(["a, 1.jpg", "b.jpg", "kät/c.jpg"])], source.uri)
    except ThawError:
        return False
    return True


def check_text(content: bytes, folder: Path) -> bool:
    return inspect_text(content, (None, None, "cp1252", "utf-16", "shift_jis", "utf-7")[len(content) % 6]) is None


def check_vectors(content: bytes, folder: Path) -> bool:
    path = folder / "vectors"
    path.write_bytes(content)
    file = VectorFile(path, "vectors")
    try:
        for block in file.blocks():
            for number, _, numbers in block:
                file.numbers(number, numbers)
    except ThawError:
        return False
    return True


KINDS: dict[str, tuple[Callable[[], list[bytes]], Callable[[bytes, Path], bool]]] = {
    "tables": (table_seeds, check_table),
    "texts": (text_seeds, check_text),
    "vectors": (vector_seeds, check_vectors),
}


def fuzz(kind: str, count: int, seed: int = 0) -> tuple[int, int]:
    """How many of `count` mutated files were read, and how many refused. A file that raises anything else is kept in a
    folder that the error names.
    """
    seeds, check = KINDS[kind]
    found = [0, 0]
    with tempfile.TemporaryDirectory() as folder:
        for content in mutations(seeds(), count, seed):
            try:
                found[not check(content, Path(folder))] += 1
            except Exception as error:
                kept = Path(tempfile.mkdtemp(prefix="fuzz-"), kind)
                kept.write_bytes(content)
                raise AssertionError(f"{kept}: {type(error).__name__}: {error}") from error
    return found[0], found[1]
