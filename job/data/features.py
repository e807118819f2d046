"""The feature store: per shard of the snapshot, decoded images and the frozen base's pooled features.

features/<featurizer id>/shard-00000.parquet   row, image (uint8 [S, S, 3]), pooled (float32 [d]); rejects as metadata
features/<featurizer id>/complete.json         written last: shards with their rows and sha256
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from job.errors import StorageError
from job.storage import Store

FORMAT = 1
LOCAL_COPIES = 2
"""Feature sets that a node's cache keeps; older ones are deleted."""


@dataclass(frozen=True)
class Shard:
    """What is known of a written shard."""

    index: int
    rows: int
    sha256: str
    rejects: list[tuple[str, str, str]]
    """Key, label and reason of each example that could not be decoded."""


@dataclass(frozen=True)
class Features:
    """A node's local copy of a feature set, memory-mapped."""

    rows: np.ndarray
    """Row in the snapshot of each example, ascending, int64 [n]."""
    images: np.ndarray
    """uint8 [n, S, S, 3]"""
    pooled: np.ndarray
    """float32 [n, d]"""


def featurizer_id(meaning: dict[str, object]) -> str:
    """The digest of everything that determines the stored features."""
    text = json.dumps({"format": FORMAT, **meaning}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def shard_key(id: str, index: int) -> str:
    return f"features/{id}/shard-{index:05d}.parquet"


def write_shard(
    store: Store,
    id: str,
    index: int,
    rows: np.ndarray,
    images: np.ndarray,
    pooled: np.ndarray,
    rejects: list[tuple[str, str, str]],
) -> Shard:
    """Writes the examples of one shard: rows int64 [n], images uint8 [n, S, S, 3], pooled float32 [n, d]."""
    columns = {"row": pa.array(rows, pa.int64()), "image": _fixed(images), "pooled": _fixed(pooled.astype("<f4"))}
    metadata = {"image_shape": json.dumps(images.shape[1:]), "rejects": json.dumps(rejects)}
    table = pa.table(columns).replace_schema_metadata(metadata)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression={"row": "zstd", "image": "zstd", "pooled": "none"}, use_dictionary=False)
    content = buffer.getvalue()
    store.write(shard_key(id, index), content)
    return Shard(index, len(rows), hashlib.sha256(content).hexdigest(), rejects)


def write_complete(store: Store, id: str, shards: list[Shard]) -> None:
    document = {"format": FORMAT, "shards": [asdict(shard) for shard in sorted(shards, key=lambda s: s.index)]}
    store.write(f"features/{id}/complete.json", json.dumps(document).encode())


def read_complete(store: Store, id: str) -> list[Shard] | None:
    """The shards of a complete feature set, or None where it is not complete."""
    key = f"features/{id}/complete.json"
    if store.stat(key) is None:
        return None
    shards = json.loads(store.read(key))["shards"]
    return [Shard(s["index"], s["rows"], s["sha256"], [tuple(r) for r in s["rejects"]]) for s in shards]


def local_features(store: Store, id: str, cache: str | None = None) -> Features:
    """Copies a complete feature set to this node's disk once (all workers of a node share it) and maps it.

    Raises StorageError naming the shard whose bytes are not what was written.
    """
    root = Path(cache or os.environ.get("THAW_CACHE") or Path(tempfile.gettempdir(), f"thaw-{os.getuid()}"))
    root.mkdir(parents=True, exist_ok=True)
    folder = root / f"{id}-{hashlib.sha256(store.uri.encode()).hexdigest()[:8]}"
    try:
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                _copy(store, id, folder)
            os.utime(folder)
        _forget_old(root, keep=folder)
    except OSError as error:
        raise StorageError(
            f"{folder}: the features can't be copied here: {error.strerror}. Set THAW_CACHE to a folder with room."
        ) from error
    load = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("rows", "images", "pooled")}
    return Features(**load)


def _copy(store: Store, id: str, folder: Path) -> None:
    shards = read_complete(store, id)
    if shards is None:
        raise StorageError(f"{store.uri}features/{id}/: the feature set is not complete. Run the job again.")
    total = sum(shard.rows for shard in shards)
    half = folder.with_suffix(".half")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir()
    arrays: dict[str, np.ndarray] = {}
    position = 0
    for shard in shards:
        for name, part in _read_shard(store, id, shard).items():
            if name not in arrays:
                shape = (total, *part.shape[1:])
                arrays[name] = np.lib.format.open_memmap(half / f"{name}.npy", "w+", part.dtype, shape)
            arrays[name][position : position + shard.rows] = part
        position += shard.rows
    for array in arrays.values():
        array.flush()  # type: ignore[attr-defined]
    half.rename(folder)


def _read_shard(store: Store, id: str, shard: Shard) -> dict[str, np.ndarray]:
    key = shard_key(id, shard.index)
    content = store.read(key)
    if hashlib.sha256(content).hexdigest() != shard.sha256:
        raise StorageError(f"{store.uri}{key} is not what was written (sha256). Delete features/{id}/ and run again.")
    table = pq.read_table(io.BytesIO(content))
    shape = json.loads(table.schema.metadata[b"image_shape"])
    return {
        "rows": table["row"].to_numpy(),
        "images": _unfixed(table["image"], np.dtype("u1")).reshape(-1, *shape),
        "pooled": _unfixed(table["pooled"], np.dtype("<f4")),
    }


def _fixed(array: np.ndarray) -> pa.Array:
    """[n, …] as n values of fixed-size binary, without a copy."""
    rows = np.ascontiguousarray(array)
    width = rows.itemsize * int(np.prod(rows.shape[1:]))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(rows), [None, pa.py_buffer(rows)])


def _unfixed(column: pa.ChunkedArray, dtype: np.dtype) -> np.ndarray:
    chunk = column.combine_chunks()
    chunk = chunk.chunk(0) if isinstance(chunk, pa.ChunkedArray) else chunk
    width = chunk.type.byte_width
    start = chunk.offset * width
    return (
        np.frombuffer(chunk.buffers()[1], dtype="u1")[start : start + len(chunk) * width]
        .view(dtype)
        .reshape(len(chunk), -1)
    )


def _forget_old(root: Path, keep: Path) -> None:
    """Deletes all but the newest feature sets; a mapped one stays readable for those who hold it."""
    folders = sorted((f for f in root.iterdir() if f.is_dir() and f.suffix != ".half"), key=lambda f: f.stat().st_mtime)
    for folder in folders[:-LOCAL_COPIES]:
        if folder != keep:
            shutil.rmtree(folder, ignore_errors=True)
