"""Uploads and downloads the files of an exported model, with their sha256 by name in files.json, which is written
last.
"""

from __future__ import annotations

import json
from pathlib import Path

from job.errors import ObjectMissing, StorageError
from job.storage import Store, file_sha256, read_json

MANIFEST = "files.json"


def upload_files(store: Store, prefix: str, folder: Path) -> None:
    """Uploads all files in `folder` to keys below `prefix`, and the manifest last."""
    digests: dict[str, str] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        digests[name] = file_sha256(file)
        store.upload(f"{prefix}{name}", str(file))
    store.write(f"{prefix}{MANIFEST}", json.dumps(digests, indent=1).encode())


def download_files(store: Store, below: tuple[str, ...], folder: Path) -> None:
    """Downloads the files of the manifest whose names begin with one of `below`.

    Raises StorageError where a file has changed since its upload, and ObjectMissing.
    """
    digests = read_json(store, MANIFEST)
    if digests is None:
        raise ObjectMissing(f"{store.uri}{MANIFEST} is gone: copy the whole model again, or export it anew.")
    for name, digest in digests.items():
        if not name.startswith(below):
            continue
        target = folder / name
        if not target.resolve().is_relative_to(folder.resolve()):
            raise StorageError(f"{store.uri}{MANIFEST} names {name!r}, which is not in the model's folder: refused.")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            store.download(name, str(target))
        except ObjectMissing as error:
            raise ObjectMissing(f"{store.uri}{name} is gone: copy the whole model again, or export it anew.") from error
        if file_sha256(target) != digest:
            target.unlink()
            raise StorageError(
                f"{store.uri}{name} is not what was exported (its sha256 is another one): it is not loaded. Copy the "
                "model again, or export it anew with `thaw run --new`."
            )
