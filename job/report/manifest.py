"""The files of an exported model in the store, and files.json, written last: the sha256 of each by its name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from job.errors import ObjectMissing, StorageError
from job.storage import Store

MANIFEST = "files.json"


def upload_files(store: Store, prefix: str, folder: Path) -> None:
    """Uploads all that is in `folder` below `prefix`."""
    digests: dict[str, str] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        digests[name] = _sha256(file)
        store.upload(f"{prefix}{name}", str(file))
    store.write(f"{prefix}{MANIFEST}", json.dumps(digests, indent=1).encode())


def download_files(store: Store, below: str, folder: Path) -> None:
    """Downloads the files whose names begin with `below`. Raises StorageError where one is not what was uploaded.

    What the manifest does not name is left where it is.
    """
    for name, digest in json.loads(store.read(MANIFEST)).items():
        if not name.startswith(below):
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            store.download(name, str(target))
        except ObjectMissing as error:
            raise ObjectMissing(f"{store.uri}{name} is gone: copy the whole model again, or export it anew.") from error
        if _sha256(target) != digest:
            target.unlink()
            raise StorageError(
                f"{store.uri}{name} is not what was exported (its sha256 is another one): it is not loaded. Copy the "
                "model again, or export it anew with `thaw run --new`."
            )


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
