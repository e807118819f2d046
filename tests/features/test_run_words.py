"""The words of a run: counted from what is stored, and looked for in the file of vectors as far as they are new."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from job.config import Job
from job.config.jobfile import parse_job
from job.data.snapshot import take_snapshot
from job.data.text import decode_text, ids_of_words
from job.errors import DataError, JobError, StorageError
from job.features.cache_plan import input_featurizer
from job.features.dataset import Examples, read_examples
from job.features.run_words import Words, count_words, note_words
from job.features.store import stored_features
from job.model.networks import base_of_run, base_of_store
from job.model.resolved import ResolvedBase
from job.run.outcome import WordStatistics
from job.run.run import Run
from job.run.word_vectors import learn_vectors, resolve_vectors
from job.storage import Store, open_store
from job.storage.documents import read_document
from job.text.vocabulary import kept_vectors, read_vocabulary
from support import texts
from support.events import Heard
from support.stored import write_part

EXAMPLES = 40


def job_of(folder: Path, *settings: str) -> Job:
    text = f"""
name: words
task: text
data: {{source: 'file://{folder}/source/'}}
store: 'file://{folder}/store/'
model: {{backbone: glove, weights: '{folder}/vectors.txt', max_tokens: 8}}
"""
    return parse_job(text, settings)


def fill(folder: Path, count: int = EXAMPLES) -> None:
    source = open_store(f"file://{folder}/source/")
    for key, content in texts.folder_of(count).items():
        source.write(key, content)
    open_store(f"file://{folder}/store/").write("x", b"")
    if not (folder / "vectors.txt").exists():
        (folder / "vectors.txt").write_bytes(texts.vectors())


def counted(job: Job, store: Store) -> tuple[Examples, Words]:
    """The examples of the source, whose ids are stored in parts of seven."""
    source = open_store(job.data.source)
    examples = read_examples(store, take_snapshot(job.data, source, store, task=job.task), source.uri, packed=False)
    featurizer = input_featurizer(job)
    keys = examples.table["key"].to_pylist()
    ids = np.stack([decode_text(tf.constant(source.read(key)), job.model.max_tokens).numpy() for key in keys])
    for begin in range(0, len(ids), 7):
        write_part(store, featurizer, examples.addresses[begin : begin + 7], values=ids[begin : begin + 7])
    return examples, count_words(store, featurizer, stored_features(store, featurizer), examples=examples)


def run_of(job: Job, store: Store, base: ResolvedBase) -> Run:
    return Run(job, "run", store, take_snapshot(job.data, open_store(job.data.source), store, task=job.task), base)


def id_of(word: str) -> int:
    return int(ids_of_words(tf.constant(word)))


def words_by_hand(key: str) -> list[str]:
    content = texts.folder_of(EXAMPLES)[key].decode().lower().replace(".", "").replace("don't", "do n't")
    return content.split()[:8]


def test_words_are_counted_over_all_and_over_the_train_split(tmp_path: Path) -> None:
    fill(tmp_path)
    job, store = job_of(tmp_path), open_store(f"file://{tmp_path}/store/")
    examples, words = counted(job, store)
    counts, train = dict[str, int](), dict[str, int]()
    for key, split in zip(examples.table["key"].to_pylist(), examples.splits, strict=True):
        for word in words_by_hand(key):
            counts[word] = counts.get(word, 0) + 1
            train[word] = train.get(word, 0) + (split == 0)
    assert words.ids.tolist() == sorted(map(id_of, counts))
    of = {id_of(word): (counts[word], train[word]) for word in counts}
    assert [of[id] for id in words.ids.tolist()] == list(zip(words.counts.tolist(), words.train.tolist(), strict=True))


def test_only_new_words_are_looked_for(tmp_path: Path) -> None:
    fill(tmp_path, 24)
    job, store, heard = job_of(tmp_path), open_store(f"file://{tmp_path}/store/"), Heard()
    sha256 = resolve_vectors(job, store, heard).weights_sha256
    assert sha256 == hashlib.sha256((tmp_path / "vectors.txt").read_bytes()).hexdigest()
    _, words = counted(job, store)
    learn_vectors(job, store, sha256, ids=words.ids, emit=heard)
    asked, found, values = kept_vectors(store, sha256)
    np.testing.assert_array_equal(asked, words.ids)
    assert id_of(texts.UNKNOWN) not in found
    assert values.shape == (len(found), texts.DIMENSIONS)
    heard.clear()
    learn_vectors(job, store, sha256, ids=words.ids, emit=heard)
    assert not heard

    (tmp_path / "source" / "cooking" / "new.txt").write_text("other7 broth")
    (tmp_path / "vectors.txt").touch()
    _, more = counted(job, store)
    learn_vectors(job, store, sha256, ids=more.ids, emit=heard)
    fresh = set(more.ids.tolist()) - set(words.ids.tolist())
    assert id_of("other7") in fresh
    assert f"the vectors of {len(fresh)} words" in "\n".join(heard.texts)
    again = kept_vectors(store, sha256)
    row = dict(zip(again[1].tolist(), again[2].tolist(), strict=True))
    assert all(row[id] == vector for id, vector in zip(found.tolist(), values.tolist(), strict=True))


def test_a_file_that_was_written_since_is_not_the_one_that_was_named(tmp_path: Path) -> None:
    fill(tmp_path)
    job, store = job_of(tmp_path), open_store(f"file://{tmp_path}/store/")
    sha256 = resolve_vectors(job, store, Heard()).weights_sha256
    _, words = counted(job, store)
    (tmp_path / "vectors.txt").write_bytes(texts.vectors(201))
    with pytest.raises(StorageError, match=r"vectors\.txt was written since this run was named"):
        learn_vectors(job, store, sha256, ids=words.ids, emit=Heard())
    other = job_of(tmp_path, f"model.weights={{uri: 'file://{tmp_path}/vectors.txt', sha256: '{sha256}'}}")
    with pytest.raises(JobError, match="it is not the file meant"):
        resolve_vectors(other, store, Heard())


def test_unknown_words_are_counted_and_the_worst_are_named(tmp_path: Path) -> None:
    fill(tmp_path)
    job, store = job_of(tmp_path), open_store(f"file://{tmp_path}/store/")
    base = resolve_vectors(job, store, Heard())
    examples, words = counted(job, store)
    learn_vectors(job, store, base.weights_sha256, ids=words.ids, emit=Heard())
    noted = note_words(run_of(job, store, base), words, examples)
    by_hand = [word for key in texts.folder_of(EXAMPLES) for word in words_by_hand(key)]
    unknown = by_hand.count(texts.UNKNOWN)
    assert noted.worst == [(texts.UNKNOWN, unknown)]
    assert (noted.occurrences, noted.unknown, noted.unknown_distinct) == (len(by_hand), unknown, 1)
    assert noted.rate == unknown / len(by_hand)
    assert read_document(store, "runs/run/words.json", WordStatistics) == noted


def test_vectors_of_another_language(tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").write_text("мачта 0.1 0.2\n")
    fill(tmp_path)
    job, store = job_of(tmp_path), open_store(f"file://{tmp_path}/store/")
    base = resolve_vectors(job, store, Heard())
    examples, words = counted(job, store)
    learn_vectors(job, store, base.weights_sha256, ids=words.ids, emit=Heard())
    with pytest.raises(DataError, match="has a vector of none of the"):
        note_words(run_of(job, store, base), words, examples)


@pytest.mark.parametrize(
    ("setting", "trained"),
    [
        ("phases.fine_tune={unfreeze: {blocks: 1}}", None),
        ("phases.fine_tune={unfreeze: {words: 5}}", 5),
        ("phases.fine_tune={unfreeze: {words: 100000}}", None),
        ("phases.fine_tune=null", 0),
    ],
)
def test_what_may_train_is_frequent_in_the_train_split(setting: str, trained: int | None, tmp_path: Path) -> None:
    fill(tmp_path)
    job, store = job_of(tmp_path, setting), open_store(f"file://{tmp_path}/store/")
    base = resolve_vectors(job, store, Heard())
    examples, words = counted(job, store)
    assert base_of_store(job, store, base).output_shape == (None, texts.DIMENSIONS)
    learn_vectors(job, store, base.weights_sha256, ids=words.ids, emit=Heard())
    note_words(run_of(job, store, base), words, examples)
    ids, train = read_vocabulary(store, "run")
    occurring = int((train > 0).sum())
    assert 0 < occurring < len(ids), "some words are in the other splits alone"
    layer = base_of_run(job, store, "run", resolved=base).get_layer("word_vectors")
    wanted = occurring if trained is None else trained
    assert layer.rows == {"trained": wanted, "frozen": len(ids) - wanted}
    if wanted:
        trains = set(layer.tables[0][0].numpy().tolist())
        often = dict(zip(words.ids.tolist(), words.train.tolist(), strict=True))
        others = [often[id] for id in ids.tolist() if id not in trains]
        assert min(often[id] for id in trains) >= max(others)
    both = [base_of_run(job, store, "run", resolved=base), base_of_store(job, store, base)]
    sample = np.array([ids[[0, 3, -1, -1, 5, 1, 2, 0]]])
    np.testing.assert_array_equal(both[0](sample).numpy(), both[1](sample).numpy())


def test_a_base_whose_vectors_are_gone(tmp_path: Path) -> None:
    fill(tmp_path)
    store = open_store(f"file://{tmp_path}/store/")
    with pytest.raises(StorageError, match=r"delete .*weights/resolved/ and run again"):
        base_of_store(job_of(tmp_path), store, ResolvedBase("0" * 64))
