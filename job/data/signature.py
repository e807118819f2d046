"""What a file is, by its first bytes: for errors that say what was found where something else was wanted."""

from __future__ import annotations

HEAD = 512
"""Bytes that are enough to tell every form below."""
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
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"PK\x03\x04", "a ZIP archive (or an Excel workbook, which is one)"),
    (0, b"PK\x05\x06", "an empty ZIP archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"ARROW1", "an Arrow (Feather) file"),
    (0, b"Obj\x01", "an Avro file"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"SQLite format 3", "an SQLite database"),
    (0, b"\xd0\xcf\x11\xe0", "an old Office file or a Windows thumbnail cache"),
    (0, b"OggS", "an Ogg recording"),
    (0, b"ID3", "an MP3 recording"),
    (0, b"\x7fELF", "a program"),
    (0, b"\0\x05\x16\x07", "a macOS resource file (._…)"),
    (0, b"version https://git-lfs", "a Git LFS pointer: the file itself was not fetched"),
)
"""Where a signature begins, its bytes, what it is of. The first that fits counts."""
MARKUP = (
    (("<!doctype html", "<html"), "an HTML page: most likely an error page that was saved in its place"),
    (("<svg",), "an SVG drawing"),
    (("<?xml", "<error"), "an XML document"),
    (("{\\rtf",), "an RTF document"),
)
"""Beginnings of texts, in lower case."""
BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
"""Byte order marks, and the encoding that each is of."""


def describe(first: bytes) -> str:
    """What a file with these `first` bytes (HEAD of them, or all) is, as words that follow "it is"."""
    if not first:
        return "empty"
    for at, signature, what in SIGNATURES:
        if first.startswith(signature, at):
            return what
    text = as_text(first[:HEAD])
    if text is None:
        return f"nothing that is known (its first bytes are {first[:8].hex(' ')})"
    begins = text.lstrip().lower()
    for beginnings, what in MARKUP:
        if begins.startswith(beginnings):
            return "an SVG drawing" if "<svg" in begins and "xml" in what.lower() else what
    words = " ".join(text.split())
    return f"text ({words[:30]!r}{' …' if len(words) > 30 else ''})" if words else "blank text"


def as_text(first: bytes) -> str | None:
    """The beginning of a file as text; None where it is none."""
    for mark, encoding in BOMS:
        if first.startswith(mark):
            return first.decode(encoding, "ignore")
    text = first.decode("utf-8", "ignore")
    lost = len(first) - len(text.encode())
    controls = sum(character < " " and character not in "\t\r\n\f" for character in text)
    return None if controls or lost > max(3, len(first) // 8) else text
