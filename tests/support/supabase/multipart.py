"""The one upload form that storage clients send: small fields, then the file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from email.message import Message


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """A file, with its name and type."""

    content: bytes
    content_type: str
    fields: dict[str, str] = field(default_factory=dict)


def read_upload(content_type: str, body: bytes) -> Upload:
    """Read a form, or take the body as the file when it is none."""
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_boundary()
    if header.get_content_type() != "multipart/form-data" or boundary is None:
        return Upload(content=body, content_type=content_type)
    return _read_form(body, boundary.encode())


def _read_form(body: bytes, boundary: bytes) -> Upload:
    fields: dict[str, str] = {}
    content, content_type = b"", "application/octet-stream"
    # The first delimiter has no line break before it; the last part is the closing "--".
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        if b"filename" in head:
            content, content_type = value, _find(rb"content-type: *([^\r\n]+)", head)
        else:
            fields[_find(rb'name="([^"]*)"', head)] = value.decode()
    return Upload(content=content, content_type=content_type, fields=fields)


def _find(pattern: bytes, head: bytes) -> str:
    found = re.search(pattern, head, re.IGNORECASE)
    return found[1].decode() if found else ""
