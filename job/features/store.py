"""The feature store: outputs of frozen networks for examples, stored by content.

features/<featurizer id>/featurizer.json   the meaning of the id
features/<featurizer id>/<file>.arrow      parts, one after another: each an Arrow stream of addresses (16 bytes) and
                                           values (fixed-size binary) of some examples
features/<featurizer id>/<file>.json       written last: place, sha256 and addresses of each part of the file, and the
                                           examples that can't be decoded

An address is a digest of source, key and version: a changed example has another address, and runs with the same frozen
network and source share their features. A file without its marker does not count. A part is what is read at a time, by
one request for that range of the file.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from job.data.forms import INPUTS
from job.errors import CorruptFeatures, ObjectMissing
from job.features.binary import from_stream, to_stream
from job.run.events import Emit, Warned
from job.storage import Store

FORMAT = 2
"""The version of values, part of ids: raise it when a featurizer gives other ones."""
LAYOUT = 3
"""The version of files and markers: raise it when they are written differently."""
MAX_CORRUPT = 8
"""The most corrupt files that whoever reads features has computed again."""
ADDRESS = np.dtype("S16")
READERS = 16
"""Markers that are read at a time."""


@dataclass(frozen=True)
class Featurizer:
    """A tensor of the frozen network, under one augmentation of its input."""

    tap: str
    """The name of the tensor: `image` or `words` (decoded inputs), `pooled`, or the layer at the cut."""
    view: int
    """The number of the augmentation; 0 is the plain example."""
    dtype: str
    """The type of the values: `uint8`, `int64`, `float16`, `bfloat16` or `float32`."""
    shape: tuple[int, ...]
    """The shape of one example's feature."""
    meaning: dict[str, object]
    """Everything else that determines the values, as JSON types."""

    @property
    def id(self) -> str:
        text = json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    @property
    def is_input(self) -> bool:
        """Whether this is the decoded input of the network."""
        return self.tap in INPUTS

    @property
    def bytes_per_example(self) -> int:
        return int(np.prod(self.shape)) * self.storage.itemsize

    @property
    def storage(self) -> np.dtype:
        return storage_type(self.dtype)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Featurizer:
        """The featurizer from its `asdict` form in JSON."""
        return cls(**{**stored, "shape": tuple(stored["shape"])})


@dataclass(frozen=True)
class Part:
    """Where a part is."""

    file: str
    """The name of its file."""
    begin: int
    """Its first byte there."""
    size: int
    """Its bytes."""
    rows: int
    sha256: str


@dataclass(frozen=True)
class StoredFeatures:
    """The examples whose features are stored."""

    parts: list[Part]
    addresses: np.ndarray
    """Addresses of the examples, ADDRESS [n], ascending."""
    part: np.ndarray
    """The index into `parts` of each address, int32 [n]."""
    offset: np.ndarray
    """The row in the part of each address, int32 [n]."""
    rejects: dict[bytes, str]
    """The reasons why examples have no features, by address."""

    def find(self, addresses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The part and the row of each address, int32 [m] each; -1 where it is not stored."""
        if not len(self.addresses):
            return (np.full(len(addresses), -1, np.int32),) * 2
        at = np.minimum(np.searchsorted(self.addresses, addresses), len(self.addresses) - 1)
        is_stored = self.addresses[at] == addresses
        return np.where(is_stored, self.part[at], -1), np.where(is_stored, self.offset[at], -1)


def storage_type(dtype: str) -> np.dtype:
    """The NumPy type in which values are stored, little-endian: uint16 for bfloat16, which NumPy lacks."""
    return np.dtype("uint16" if dtype == "bfloat16" else dtype).newbyteorder("<")


def address_of(source: str, key: str, version: str) -> bytes:
    """The address of one version of an example: 16 bytes (BLAKE2b)."""
    text = "\0".join((source, key, version)).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=16).digest()


def ids_of(addresses: np.ndarray) -> np.ndarray:
    """The id of each address, its first 8 bytes, int64 [n]. The proof of an epoch adds them up."""
    return np.frombuffer(addresses.astype(ADDRESS).tobytes(), "<i8")[::2].copy()


def address_bytes(addresses: np.ndarray) -> list[bytes]:
    """The 16 bytes of each address (ADDRESS [n]), with the zeros at the end, which NumPy strips from S16."""
    content = addresses.tobytes()
    return [content[at : at + ADDRESS.itemsize] for at in range(0, len(content), ADDRESS.itemsize)]


def describe(store: Store, featurizer: Featurizer) -> None:
    store.write(f"{_folder(featurizer.id)}featurizer.json", json.dumps(asdict(featurizer), indent=1).encode())


NOTHING = StoredFeatures([], np.empty(0, ADDRESS), np.empty(0, np.int32), np.empty(0, np.int32), {})


def stored_features(store: Store, featurizer: Featurizer, before: StoredFeatures = NOTHING) -> StoredFeatures:
    """The features that the store has of this featurizer. Reads only markers that are not among those `before`."""
    folder = _folder(featurizer.id)
    there = {f"{folder}{name}.json" for name in ("featurizer", *(part.file for part in before.parts))}
    keys = sorted(info.key for info in store.list(folder) if info.key.endswith(".json") and info.key not in there)
    with ThreadPoolExecutor(READERS) as pool:
        contents = pool.map(lambda key: _read_marker(store, key), keys)
        markers = [marker for marker in contents if isinstance(marker, dict) and marker.get("format") == LAYOUT]
    new = [stored for marker in markers for stored in marker["parts"]]
    parts = [*before.parts, *(Part(**stored["part"]) for stored in new)]
    lists = [np.frombuffer(base64.b64decode(stored["addresses"]), ADDRESS) for stored in new]
    counts = [len(stored) for stored in lists]
    numbers = np.arange(len(before.parts), len(parts), dtype=np.int32)
    part = np.concatenate([before.part, np.repeat(numbers, counts)])
    offset = np.concatenate([before.offset, *(np.arange(count, dtype=np.int32) for count in counts)])
    addresses, first = np.unique(np.concatenate([before.addresses, *lists]), return_index=True)
    rejects = {base64.b64decode(address): reason for marker in markers for address, reason in marker["rejects"]}
    return StoredFeatures(parts, addresses, part[first], offset[first], before.rejects | rejects)


def write_file(
    store: Store,
    featurizer: Featurizer,
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    rejects: Iterable[tuple[bytes, str]] = (),
) -> list[Part]:
    """Stores parts in one file: of each the addresses, ADDRESS [n], and the values, [n, …] of the featurizer's type and
    shape; and rejects.
    """
    rejects = list(rejects)
    whole = b"".join([*(addresses.tobytes() for addresses, _ in parts), *(address for address, _ in rejects)])
    whole += len(rejects).to_bytes(8, "big")
    name = hashlib.sha256(whole).hexdigest()[:20]
    contents = [
        to_stream(addresses, values.reshape(len(values), -1).view(featurizer.storage), packed=featurizer.is_input)
        for addresses, values in parts
    ]
    begins = [0, *accumulate(map(len, contents))]
    stored = [
        Part(name, begin, len(content), len(addresses), hashlib.sha256(content).hexdigest())
        for begin, content, (addresses, _) in zip(begins, contents, parts, strict=False)
    ]
    if parts:
        store.write(f"{_folder(featurizer.id)}{name}.arrow", b"".join(contents))
    marker = {
        "format": LAYOUT,
        "parts": [
            {"part": asdict(part), "addresses": base64.b64encode(addresses.tobytes()).decode()}
            for part, (addresses, _) in zip(stored, parts, strict=True)
        ],
        "rejects": [(base64.b64encode(address).decode(), reason) for address, reason in rejects],
    }
    store.write(f"{_folder(featurizer.id)}{name}.json", json.dumps(marker).encode())
    return stored


def read_part(store: Store, featurizer: Featurizer, part: Part) -> tuple[np.ndarray, np.ndarray]:
    """The addresses, ADDRESS [n], and the values, [n, …], of a part. Raises CorruptFeatures where it is gone or
    changed.
    """
    key = f"{_folder(featurizer.id)}{part.file}.arrow"
    try:
        content = store.read_range(key, part.begin, part.size)
        if hashlib.sha256(content).hexdigest() != part.sha256:  # no checksum covers what comes of a range
            content = store.read(key)[part.begin : part.begin + part.size]
    except ObjectMissing as error:
        raise CorruptFeatures(f"{store.uri}{key} is gone.", featurizer.id, part.file) from error
    if hashlib.sha256(content).hexdigest() != part.sha256:
        raise CorruptFeatures(f"{store.uri}{key} is not what was written (sha256).", featurizer.id, part.file)
    addresses, values = from_stream(content, ADDRESS, featurizer.storage)
    return addresses.reshape(-1), values.reshape(-1, *featurizer.shape)


def read_stored(
    store: Store, featurizer: Featurizer, parts: list[Part], *, part: np.ndarray, offset: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields features part by part: positions among the examples, int64 [k], and values, [k, …]. The part and the
    row of each example are int32 [n], -1 where it has no feature. Raises CorruptFeatures.
    """
    used = np.unique(part[part >= 0]).tolist()
    with ThreadPoolExecutor(2) as pool:  # the next part is read while this one is used
        reading = [pool.submit(read_part, store, featurizer, parts[number]) for number in used[:1]]
        for index, number in enumerate(used):
            _, values = reading.pop().result()
            reading += [pool.submit(read_part, store, featurizer, parts[n]) for n in used[index + 1 : index + 2]]
            positions = np.flatnonzero(part == number)
            yield positions, values[offset[positions]]


def forget_corrupt(store: Store, error: CorruptFeatures, emit: Emit) -> None:
    """Deletes the file that the error names, so that its examples are computed again, and says so."""
    emit(Warned(f"{error} It is computed again."))
    forget_file(store, error.featurizer, error.file)


def forget_file(store: Store, featurizer_id: str, file: str) -> None:
    """Deletes a file, its marker first, so that its examples are computed again."""
    for suffix in (".json", ".arrow"):
        store.delete(f"{_folder(featurizer_id)}{file}{suffix}")


def _folder(featurizer_id: str) -> str:
    return f"features/{featurizer_id}/"


def _read_marker(store: Store, key: str) -> dict | None:
    try:
        return json.loads(store.read(key))
    except (ObjectMissing, ValueError):  # deleted since it was listed, or no marker of ours
        return None
