"""What a client has sent: raw bytes, or a form with files, as `curl -F file=@picture.jpg` sends it."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import HTTP
from typing import cast

FORM = "multipart/form-data"
READABLE = "curl -F file=@picture.jpg sends one"


@dataclass(frozen=True)
class Upload:
    name: str
    """The name of the file, as the client calls it; "" for raw bytes."""
    content: bytes


class NotAnUpload(ValueError):
    """What is wrong with a form, in a sentence."""


def is_form(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == FORM


def uploads(content_type: str, body: bytes, texts: bool) -> list[Upload]:
    """The files of a request's body, in their order; with `texts` the plain fields of a form as well.

    Raises NotAnUpload.
    """
    if not is_form(content_type):
        return [Upload("", body)]
    form = cast(EmailMessage, BytesParser(policy=HTTP).parsebytes(_headed(content_type, body)))
    if not form.is_multipart() or form.defects:
        why = ", ".join(type(defect).__name__ for defect in form.defects) or "no boundary"
        raise NotAnUpload(f"This is no form that can be read ({why}): {READABLE}.")
    return [_upload(cast(EmailMessage, part), texts) for part in form.iter_parts()]


def _headed(content_type: str, body: bytes) -> bytes:
    return b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n" + body


def _upload(part: EmailMessage, texts: bool) -> Upload:
    name, file = part.get_param("name", header="content-disposition"), part.get_filename()
    if part.is_multipart():
        raise NotAnUpload(f"The field {name!r} has parts of its own: send each file as a field.")
    if file is None and not texts:
        raise NotAnUpload(f"The field {name!r} is no file: {READABLE} (with the @).")
    return Upload(file or str(name or ""), cast(bytes, part.get_payload(decode=True)))
