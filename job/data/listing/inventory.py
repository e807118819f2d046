"""Inventories of buckets as a listing: S3 Inventory (AWS, and Ceph's of the same form), and Cloud Storage's inventory
reports, as Parquet or CSV.

A manifest names the files of one inventory, whose rows are in no order. Formats:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
https://cloud.google.com/storage/docs/insights/inventory-reports
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from job.config import Data
from job.data.caution import Caution, Note
from job.data.listing.inventory_rows import Files, plain_name, read_files
from job.data.listing.spooled import sorted_by_key
from job.data.sources.fields import NoJson, parse_json
from job.errors import DataError, ObjectMissing
from job.storage import ObjectInfo, Store, open_store, split_uri
from job.storage.objects import Objects
from job.storage.scratch import scratch

MANIFEST = "manifest.json"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d[-:]\d\d")
"""The time of an inventory in the name of its manifest, or of the folder that it is in."""
DAY, OLD = 86_400, 8
"""Seconds; and the days after which a daily or weekly inventory is not the latest any more."""


@dataclass(frozen=True)
class Inventory:
    uri: str
    """Of the manifest."""
    bucket: str | None
    """The bucket that it is of; None where the manifest does not say so."""
    taken: float | None
    """When it was taken, in seconds since 1970."""
    files: Files


def inventory_pages(data: Data, source: Store, note: Note) -> Iterator[Objects]:
    """The objects below the source by ascending keys, as `data.inventory` has them. Raises DataError where that is no
    inventory of this source. Memory is that of a part of it; the rest is in local files.
    """
    inventory = find_inventory(data, source)
    bucket, _, prefix = source.uri.partition("://")[2].partition("/")
    if inventory.bucket not in (None, bucket):
        raise DataError(
            f"data.inventory: {inventory.uri} is of the bucket {inventory.bucket}, and data.source is {source.uri}."
        )
    if inventory.taken is not None and (days := (time.time() - inventory.taken) / DAY) > OLD:
        note(Caution("data.inventory", f"{inventory.uri} is {days:.0f} days old: what was written since is not in it."))
    with scratch() as folder:
        last = None
        for page in sorted_by_key(read_files(inventory.files, prefix, folder), folder):
            if twice := [key for before, key in pairwise([last, *page.keys]) if before == key]:
                raise DataError(
                    f"data.inventory: {inventory.uri} has {twice[0]!r} twice: add IsLatest (Cloud Storage: "
                    "timeDeleted) to its fields, or have it made of current versions alone."
                )
            last = page.keys[-1]
            yield page


def find_inventory(data: Data, source: Store) -> Inventory:
    """The inventory whose manifest `data.inventory` is, or the latest one in that folder. Raises DataError."""
    given = str(data.inventory)
    if not given.endswith(MANIFEST):
        given = _latest(open_store(given, source.access))
    root, key = split_uri(given)
    store = open_store(root, source.access)
    try:
        manifest = _plain(parse_json(store.read(key)))
    except ObjectMissing as error:
        raise DataError(f"data.inventory: there is no {given}.") from error
    except NoJson as error:
        raise DataError(f"data.inventory: {given} is no JSON ({error}).") from error
    try:
        return _of_s3(given, manifest, source) if "sourcebucket" in manifest else _of_gcs(given, manifest, store)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"data.inventory: {given} is the manifest of no inventory ({type(error).__name__}: {error}): S3's has "
            "sourceBucket, fileFormat and files, Cloud Storage's report_shards_file_names."
        ) from error


def _latest(store: Store) -> str:
    """The URI of the latest manifest below the store."""
    manifests = [info for info in store.list() if info.key.endswith(MANIFEST)]
    if not manifests:
        raise DataError(
            f"data.inventory: there is no {MANIFEST} below {store.uri}. It is the folder of an inventory, in which "
            "each day has one, or the manifest itself."
        )
    return f"{store.uri}{max(manifests, key=_age).key}"


def _age(info: ObjectInfo) -> tuple[str, float]:
    return max(TIME.findall(info.key), default="").replace(":", "-"), info.modified or 0.0


def _of_s3(uri: str, manifest: dict[str, Any], source: Store) -> Inventory:
    kind, bucket = manifest["fileformat"], uri.partition("://")[2].partition("/")[0]
    if kind not in ("CSV", "Parquet"):
        raise DataError(f"data.inventory: {uri} is of {kind} files: have it written as Parquet, or as CSV.")
    return Inventory(
        uri,
        manifest["sourcebucket"],
        int(manifest["creationtimestamp"]) / 1000,
        Files(
            open_store(f"s3://{bucket}/", source.access),
            {file["key"]: int(file["size"]) for file in manifest["files"]},
            [name.strip() for name in manifest["fileschema"].split(",")] if kind == "CSV" else None,
        ),
    )


def _of_gcs(uri: str, manifest: dict[str, Any], store: Store) -> Inventory:
    report = manifest.get("reportconfig", {})
    csv, content = report.get("csvoptions", {}), report.get("objectmetadatareportoptions", {})
    return Inventory(
        uri,
        content.get("storagefilters", {}).get("bucket"),
        datetime.fromisoformat(manifest["snapshottime"]).timestamp(),
        Files(
            store,
            {name.rpartition("/")[2]: None for name in manifest["reportshardsfilenames"]},
            None if csv.get("headerrequired", True) else content["metadatafields"],
            csv.get("delimiter") or ",",
            int(manifest["recordsprocessed"]),
        ),
    )


def _plain(document: Any) -> Any:
    """A document with the names of its fields in lower case, without `_`: they are written in two ways."""
    if isinstance(document, dict):
        return {plain_name(name): _plain(value) for name, value in document.items()}
    return [_plain(value) for value in document] if isinstance(document, list) else document
