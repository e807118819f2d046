from __future__ import annotations

import gzip
import io
import zlib

import pytest
from PIL import Image

from job.data.sources.signature import HEAD, SIGNATURES, describe
from job.data.sources.tfrecord import framed


def picture(form: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WebP"])
def test_a_picture_is_named_by_its_format(form: str) -> None:
    assert describe(picture(form)[:HEAD]).endswith(f"{form} picture")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (gzip.compress(b"key,label\n", mtime=0), "a gzip file"),
        (b"<!DOCTYPE html>\n<html><body>403", "an HTML page"),
        (b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code>', "an XML document"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg">', "an SVG drawing"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d", "a Git LFS pointer"),
        (b"key,label\na.jpg,cat\n", "text ('key,label a.jpg,cat')"),
        ("größe;klasse\n".encode("utf-16"), "text ('größe;klasse')"),
        ("größe;klasse;name der datei\n".encode("cp1252"), "text ('gre;klasse;name der datei')"),
        (gzip.compress(gzip.compress(b"BMW,AUDI\n", mtime=0), mtime=0), "a gzip file with a gzip file in it"),
        (b"BMW,AUDI\n", "text ('BMW,AUDI')"),
        (zlib.compress(b"key,label\n"), "a zlib stream with text ('key,label') in it"),
        (b"\x1f\x9d\x90" + bytes(range(200)), "a file of compress (.Z)"),
        (b"/9j/4AAQSkZJRgABAQ", "base64 text of a picture"),
        (framed(bytes(0x4D42))[:HEAD], "a TFRecord file"),
        (b"\xff\xff\xff\xff\x10\0\0\0", "an Arrow stream, as Hugging Face's save_to_disk writes it"),
        (b"\x08\x04\x12\x08\x12\x02\x08\x02", "a serialized tensor of uint8"),
        (b"\x00\x01\x02\x03\xf0\xf1", "nothing that is known (its first bytes are 00 01 02 03 f0 f1)"),
    ],
)
def test_a_file_is_named_for_what_it_is(content: bytes, said: str) -> None:
    assert describe(content).startswith(said)


def test_every_signature_lies_within_the_bytes_that_are_read() -> None:
    assert all(at + len(signature) <= HEAD for at, signature, _ in SIGNATURES)
    for at, signature, _ in SIGNATURES:
        assert "known" not in describe(bytes(at) + signature + bytes(8)), signature
