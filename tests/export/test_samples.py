"""Examples of a packed source, read once more from their shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from job.config.jobfile import parse_job
from job.data.forms import form_of
from job.data.snapshot import take_snapshot
from job.data.sources.packed import index_key, list_shards, make_index, records_of, split_key
from job.errors import DataError
from job.executors.ray.datasource import open_shard
from job.export.samples import Sampler
from job.features.dataset import read_examples, write_dataset
from job.features.store import stored_features
from job.storage import open_store
from support import exported, shards
from support.stored import write_part

JOB = """
name: tiny
data: {{source: 'file://{folder}/source/', layout: {layout}}}
store: 'file://{folder}/store/'
model: {{backbone: 'file://{folder}/own.keras', image_size: 32}}
"""


@pytest.mark.parametrize("form", ["webdataset", "parquet", "tfrecord"])
def test_records_are_found_by_their_places(form: str, tmp_path: Path) -> None:
    layout, suffix, make = shards.MAKERS[form]
    job = parse_job(JOB.format(folder=tmp_path, layout=layout))
    source, store = open_store(job.data.source), open_store(job.store)
    content = {f"part {i}.{suffix}": shards.examples(30, start=100 * i) for i in range(4)}
    for key, rows in content.items():
        source.write(key, make(rows))
    filesystem, root = source.arrow()
    for info in list_shards(job.data, source):
        with open_shard(filesystem, f"{root}/{info.key}", job.data) as file:
            store.write(index_key(job.data, source, info), make_index(records_of(file, job.data, info.key)))
    snapshot = take_snapshot(job.data, source, store, task=job.task)
    found = read_examples(store, snapshot, source.uri, packed=True)
    write_part(store, exported.POOLED, found.addresses, values=np.zeros([len(found.rows), 1], np.float32))
    accepted, stored = np.ones(len(found.rows), np.bool_), [(exported.POOLED, stored_features(store, exported.POOLED))]
    write_dataset(store, exported.RUN, snapshot.classes, examples=found, accepted=accepted, pooled=stored, inputs=[])

    samples = Sampler(job, store, exported.RUN, snapshot=snapshot).take(["train"], 50, 1)
    keys = [key for key, split in zip(found.table["key"].to_pylist(), found.splits, strict=True) if split == 0][:50]
    wanted = [content[shard][place] for shard, place in map(split_key, keys)]
    pixels = np.stack([form_of(job).read(image) for image, _ in wanted])
    np.testing.assert_array_equal(samples.inputs, pixels)
    assert [snapshot.classes[label] for label in samples.labels] == [label for _, label in wanted]

    changed = split_key(keys[0])[0]
    source.write(changed, make(content[changed][:5]))
    left = Sampler(job, store, exported.RUN, snapshot=snapshot).take(["train"], 50, 1)
    assert len(left.labels) == 50
    assert not any((left.inputs == pixels[0]).all(axis=(1, 2, 3)))
    for key in content:
        source.delete(key)
    with pytest.raises(DataError, match="0 of the run's examples can still be read there, unchanged, and 32 are"):
        Sampler(job, store, exported.RUN, snapshot=snapshot).take(["train"], 50, 32)
