"""Recognises files by their first bytes, for errors that say what an unexpected file is."""

from __future__ import annotations

import io
import tarfile

from job.data.sources.expanding import HEAD, expanded, expander_of

SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"BM", "a BMP picture"),
    (8, b"CR\2\0", "a camera's raw picture"),
    (4, b"ftypcrx ", "a camera's raw picture"),
    (0, b"FUJIFILMCCD-RAW", "a camera's raw picture"),
    (0, b"IIU\0", "a camera's raw picture"),
    (0, b"IIRO", "a camera's raw picture"),
    (0, b"IIRS", "a camera's raw picture"),
    (0, b"II\xbc", "a JPEG XR picture"),
    (0, b"II*\0", "a TIFF picture"),
    (0, b"MM\0*", "a TIFF picture"),
    (0, b"II+\0", "a TIFF picture"),
    (0, b"MM\0+", "a TIFF picture"),
    (8, b"WEBP", "a WebP picture"),
    (8, b"WAVE", "a WAV recording"),
    (8, b"AVI ", "an AVI film"),
    (4, b"ftypavif", "an AVIF picture"),
    (4, b"ftypavis", "an AVIF picture"),
    (4, b"ftyphei", "a HEIC picture"),
    (4, b"ftyphev", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIC picture"),
    (4, b"ftypmsf1", "a HEIC picture"),
    (4, b"ftyp", "an MP4 film"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 picture"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (0, b"8BPS", "a Photoshop picture"),
    (0, b"gimp xcf", "a GIMP picture"),
    (0, b"\x76\x2f\x31\1", "an OpenEXR picture"),
    (0, b"#?RADIANCE", "a Radiance picture"),
    (0, b"DDS ", "a DDS picture"),
    (0, b"icns", "a macOS icon"),
    (0, b"\0\0\x01\0", "a Windows icon"),
    (128, b"DICM", "a DICOM file"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"BZh", "a bzip2 file"),
    (0, b"\xfd7zXZ\0", "an xz file"),
    (0, b"(\xb5/\xfd", "a Zstandard file"),
    (0, b"\x1f\x9d", "a file of compress (.Z)"),
    (0, b"\x04\x22\x4d\x18", "an LZ4 file"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (30, b"[Content_Types].xml", "an Excel workbook, or another Office document"),
    (30, b"mimetypeapplication/vnd.oasis.opendocument", "an OpenDocument spreadsheet, or another document"),
    (0, b"PK\x03\x04", "a ZIP archive (or an Excel workbook, which is one)"),
    (0, b"PK\x05\x06", "an empty ZIP archive"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"PARE", "an encrypted Parquet file"),
    (0, b"ARROW1", "an Arrow (Feather) file"),
    (0, b"\xff\xff\xff\xff", "an Arrow stream, as Hugging Face's save_to_disk writes it"),
    (0, b"\x08\x04\x12", "a serialized tensor of uint8"),
    (0, b"\x08\x01\x12", "a serialized tensor of float32"),
    (0, b"Obj\x01", "an Avro file"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"SQLite format 3", "an SQLite database"),
    (0, b"\xba\x16\x4f\x2f", "a fastText model (.bin)"),
    (0, b"\x80\x02", "a Python pickle"),
    (0, b"\x80\x03", "a Python pickle"),
    (0, b"\x80\x04\x95", "a Python pickle"),
    (0, b"\x80\x05\x95", "a Python pickle"),
    (0, b"\xd0\xcf\x11\xe0", "an old Office file or a Windows thumbnail cache"),
    (0, b"OggS", "an Ogg recording"),
    (0, b"ID3", "an MP3 recording"),
    (0, b"\x7fELF", "a program"),
    (0, b"\0\x05\x16\x07", "a macOS resource file (._…)"),
    (0, b"version https://git-lfs", "a Git LFS pointer: the file itself was not fetched"),
)
"""The place of a signature, its bytes, and the kind of file. The first that fits counts."""
MARKUP = (
    (("<!doctype html", "<html"), "an HTML page: most likely an error page that was saved in its place"),
    (("<svg",), "an SVG drawing"),
    (("<?xml", "<error"), "an XML document"),
    (("{\\rtf",), "an RTF document"),
    (("/9j/", "ivborw0kgg", "r0lgodlh", "data:image/"), "base64 text of a picture, which is to be decoded first"),
)
"""Beginnings of texts, in lower case."""
BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
"""Byte order marks and their encodings."""


TAR, TFRECORD, PARQUET = "a tar archive", "a TFRecord file", "a Parquet file"
EMPTY, UNKNOWN = "empty", "nothing that is known"
LAYOUTS = {TAR: "webdataset", TFRECORD: "tfrecord", PARQUET: "parquet"}
"""The `data.layout` that reads each."""
ADVICE = {
    "an Arrow": "write it as Parquet (to_parquet of Hugging Face's Dataset), which data.layout: parquet reads",
    "an encrypted Parquet": "write it without encryption",
    "a ZIP archive": "unpack it",
    "a Git LFS pointer": "git lfs pull fetches it",
}
"""How to convert a file that nothing reads, by the beginning of its description (of `describe`)."""


def describe(first: bytes) -> str:
    """The kind of a file with these `first` bytes (HEAD of them, or all), as words that follow "it is"."""
    outer, inner = _named(first), _named(_contents(first))
    return outer if inner == EMPTY else f"{outer} with {inner} in it"


def layout_of(first: bytes) -> str | None:
    """The packed layout of a file with these first bytes; None where it has none."""
    contents = LAYOUTS.get(_named(_contents(first)))
    return LAYOUTS.get(_named(first)) or (None if contents == "parquet" else contents)


def wrong_layout(first: bytes, layout: str) -> str | None:
    """A text that says the file is not of `layout`, what it is instead, and what reads it; None where it may be one."""
    what, text = describe(first), as_text(first)
    short = text is not None and len(first) < HEAD and what.startswith(("text (", "blank text"))
    if layout_of(first) == layout or short or what.startswith((EMPTY, UNKNOWN)):
        return None
    expected = {name: kind for kind, name in LAYOUTS.items()}[layout]
    return f"not {expected} but {what}{reads(first)}"


def reads(first: bytes) -> str:
    """Words about what reads a file with these first bytes, or converts it, to follow its description; "" where nothing
    is known.
    """
    if layout := layout_of(first):
        return f": data.layout: {layout} reads it"
    what = describe(first)
    if what.endswith(" picture"):
        return ": data.layout: folders, or table, reads pictures that are objects of their own"
    return next((f": {todo}" for begins, todo in ADVICE.items() if what.startswith(begins)), "")


def _named(first: bytes) -> str:
    if not first:
        return EMPTY
    if what := _packed(first):
        return what
    text = as_text(first[:HEAD])
    for at, signature, what in SIGNATURES:
        weak = len(signature) < 4 and text is not None  # a text may begin with two or three such letters
        if first.startswith(signature, at) and not weak:
            return what
    if expander_of(first):
        return "a zlib stream"
    if text is None:
        return f"{UNKNOWN} (its first bytes are {first[:8].hex(' ')})"
    begins = text.lstrip().lower()
    for beginnings, what in MARKUP:
        if begins.startswith(beginnings):
            return "an SVG drawing" if "<svg" in begins and "xml" in what.lower() else what
    words = " ".join(text.split())
    return f"text ({words[:30]!r}{' …' if len(words) > 30 else ''})" if words else "blank text"


def tfrecord_checksum(content: bytes) -> int:
    """The CRC-32C, masked as TFRecord does."""
    import google_crc32c

    crc = google_crc32c.value(content)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _packed(first: bytes) -> str | None:
    """Recognises kinds of files with a checksum at their start. Their first bytes may look like any other signature."""
    if len(first) >= 12 and tfrecord_checksum(first[:8]) == int.from_bytes(first[8:12], "little"):
        return TFRECORD
    if first.startswith(b"ustar", 257):
        return TAR
    try:
        tarfile.TarInfo.frombuf(first[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return None
    return TAR


def _contents(first: bytes) -> bytes:
    """The first bytes of the contents of a compressed file; none where it is not compressed."""
    return expanded(io.BytesIO(first)).first if not _packed(first) and expander_of(first) else b""


def as_text(first: bytes) -> str | None:
    """The beginning of a file as text; None where it is not text."""
    for mark, encoding in BOMS:
        if first.startswith(mark):
            return first.decode(encoding, "ignore")
    text = first.decode("utf-8", "ignore")
    lost = len(first) - len(text.encode())
    controls = sum(character < " " and character not in "\t\r\n\f" for character in text)
    return None if controls or lost > max(3, len(first) // 8) else text
