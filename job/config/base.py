"""The base class and the types of the sections of the job file."""

from __future__ import annotations

import codecs
import io
import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

URI_SCHEMES = ("s3://", "gs://", "file://")
TEMPLATE = re.compile(r"\$\{|\$\(|\{\{|\$[A-Z][A-Z0-9_]+\b|^file:///?~")
"""Text that a shell or a template would have replaced."""


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def check_uri(uri: str) -> str:
    """The URI without blanks around it. Raises ValueError for an invalid one."""
    uri = uri.strip()
    if TEMPLATE.search(uri):
        raise ValueError(f"variables and `~` are not replaced in a job file: write the whole URI, got {uri!r}")
    if not uri.startswith(URI_SCHEMES):
        raise ValueError(f"a URI must begin with s3://, gs:// or file://, got {uri!r}")
    rest = uri.split("://", 1)[1]
    if uri.startswith("file://"):
        if not rest.startswith("/"):
            raise ValueError(f"a file URI has an absolute path (file:///folder), got {uri!r}")
    elif not re.match(r"[A-Za-z0-9][A-Za-z0-9._-]{1,220}(/|$)", rest):
        raise ValueError(f"{uri!r} names no valid bucket")
    return uri


def check_encoding(name: str) -> str:
    """Python's name of a text encoding. Raises ValueError for an unknown one."""
    try:
        io.TextIOWrapper(io.BytesIO(), name)  # which takes no base64
        return codecs.lookup(name).name
    except (LookupError, UnicodeError, ValueError):
        raise ValueError(f"no encoding of text is known as {name!r} (utf-8, cp1252, latin-1, shift_jis, …)") from None


def _bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKMGT]i?)?B?\s*", value)
    if match is None:
        raise ValueError(f"a size is a number of bytes, or as in `50 GiB` or `500 MB`, got {value!r}")
    prefix = (match[2] or "").upper().replace("I", "i")
    return int(float(match[1]) * (1024 if prefix.endswith("i") else 1000) ** " KMGT".index(prefix[:1] or " "))


Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Uri = Annotated[str, Field(description="s3://, gs:// or file://")]
Bytes = Annotated[int, Field(gt=0), BeforeValidator(_bytes)]
