"""Reads the tensors of a PyTorch file in the old (pre-zip) format, without PyTorch and without running any code."""

from __future__ import annotations

import collections
import pickle
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from job.errors import JobError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}
BROKEN = (pickle.UnpicklingError, EOFError, struct.error, ValueError, KeyError, AttributeError, TypeError, IndexError)


def read_torch_file(file: BinaryIO, name: str) -> dict[str, np.ndarray]:
    """The tensors of the file by name. Raises JobError where it is truncated, or holds anything but tensors.

    The format: pickles (magic number, protocol, system, an ordered dictionary of tensors, the storages' keys), then
    for each key the number of its elements (int64) and its bytes, little-endian.
    """
    storages: dict[str, _Storage] = {}
    try:
        if _load(file, storages) != MAGIC or _load(file, storages) != PROTOCOL:
            raise pickle.UnpicklingError("the magic number is another")
        _load(file, storages)
        tensors = _load(file, storages)
        data = {key: _read_storage(file, storages[key]) for key in _load(file, storages)}
        return {path: tensor.view(data) for path, tensor in tensors.items()}
    except BROKEN as error:
        reason = str(error) or "it is cut short"
        raise JobError(f"{name}: not an old-format PyTorch file of tensors: {reason}.") from error


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    elements: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def view(self, data: dict[str, np.ndarray]) -> np.ndarray:
        flat = data[self.storage.key]
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        if min(self.offset, *self.stride, 0) < 0 or not 0 <= last < len(flat):
            raise ValueError("a tensor reaches beyond its storage")
        steps = [step * flat.itemsize for step in self.stride]
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, steps, writeable=False)


def _load(file: BinaryIO, storages: dict[str, _Storage]) -> Any:
    return _Restricted(file, storages).load()


def _read_storage(file: BinaryIO, storage: _Storage) -> np.ndarray:
    (elements,) = struct.unpack("<q", file.read(8))
    if elements != storage.elements:
        raise ValueError("a storage has another size than its tensors say")
    dtype = np.dtype(storage.dtype)
    content = file.read(elements * dtype.itemsize)
    if len(content) != elements * dtype.itemsize:
        raise EOFError
    return np.frombuffer(content, dtype)


def _rebuild_tensor(storage: _Storage, offset: int, shape: Any, stride: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(stride))


class _Restricted(pickle.Unpickler):
    """An unpickler that knows ordered dictionaries, tensors and storages, and refuses every other name."""

    def __init__(self, file: BinaryIO, storages: dict[str, _Storage]) -> None:
        super().__init__(file)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in DTYPES:
            return name
        raise pickle.UnpicklingError(f"it wants to run {module}.{name}, which is refused")

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, key, _, elements = pid[:5]
        return self._storages.setdefault(key, _Storage(key, DTYPES[kind], int(elements)))
