"""Files that are either whole or not there: write aside, flush to the disk, rename, flush the folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fathom.errors import RunFailed


def flush_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step that survives a power cut."""
    aside = path.with_name(f".{path.name}.part")
    with disk_errors(path), aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    flush_file(path.parent)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Say which file could not be written and why, instead of a traceback; safetensors hides the error's number in
    its text.
    """
    try:
        yield
    except Exception as error:
        reason = _disk_reason(error)
        if reason is None:
            raise
        raise RunFailed(
            f"could not write {path}: {reason}; every older checkpoint is intact, so free some space and run the "
            f"same command again"
        ) from error


def _disk_reason(error: Exception) -> str | None:
    number = getattr(error, "errno", None)
    text = str(error)
    if number == errno.ENOSPC or "No space left" in text or "os error 28" in text:
        return "the disk is full"
    if number == errno.EDQUOT or "os error 122" in text:
        return "the disk quota is used up"
    if number == errno.EFBIG or "os error 27" in text:
        return "the file would be larger than this system allows"
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "this folder may not be written to"
    return None
