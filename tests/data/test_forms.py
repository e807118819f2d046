"""What examples become, told by a job file and by an exported model."""

from __future__ import annotations

import json
from functools import partial

import pytest

from job.config.jobfile import parse_job
from job.data.decoding import DECODING, decode_image
from job.data.forms import INPUTS, Form, form_described, form_of
from job.data.sources.packed import FORMAT
from job.data.text import decode_text
from job.export.exporter import _decoding
from job.features.store import storage_type

IMAGE = "{name: a, data: {source: 'file:///s/'}, store: 'file:///t/', model: {image_size: 96, resize: crop}}"
TEXT = (
    "{name: a, task: text, data: {source: 'file:///s/'}, store: 'file:///t/', "
    "model: {backbone: glove, weights: 'file:///v.txt', max_tokens: 20}}"
)


def told(form: Form) -> tuple[object, ...]:
    decode = form.decode
    assert isinstance(decode, partial)
    return form.tap, form.dtype, form.shape, form.meaning, decode.func, decode.keywords


@pytest.mark.parametrize(("text", "decode"), [(IMAGE, decode_image), (TEXT, decode_text)], ids=["image", "text"])
def test_an_exported_model_takes_the_form_that_was_trained_on(text: str, decode: object) -> None:
    job = parse_job(text)
    form = form_of(job)
    assert told(form_described(_decoding(job), job.data.max_pixels)) == told(form)
    assert told(form)[4] is decode
    assert form.tap in INPUTS
    assert storage_type(form.dtype).itemsize == {"uint8": 1, "int64": 8}[form.dtype]


def test_the_range_of_values_goes_with_the_exported_model() -> None:
    job = parse_job(IMAGE, ["data.value_range=[0, 4095]"])
    labels = json.loads(json.dumps(_decoding(job)))
    assert told(form_described(labels, job.data.max_pixels)) == told(form_of(job))
    assert form_of(job).meaning["value_range"] == [0, 4095]
    del labels["value_range"]  # as older models have it
    assert form_described(labels, job.data.max_pixels).meaning["value_range"] is None


def test_what_decoding_makes_of_a_picture_names_what_is_stored_of_it() -> None:
    assert form_of(parse_job(IMAGE)).meaning["decoding"] == DECODING


def test_which_images_are_read_from_packed_files_is_part_of_a_form() -> None:
    job = parse_job(IMAGE, ["data.layout=parquet", "data.packed.image=photo"])
    meaning = form_of(job).meaning
    assert (meaning["image"], meaning["records"]) == ("photo", FORMAT)
    assert "records" not in form_of(parse_job(IMAGE)).meaning
