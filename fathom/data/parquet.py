"""Parquet files as rows, without holding more than one batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fathom.errors import FathomError, MissingExtra

_BATCH_ROWS = 256


def read_parquet_rows(path: Path, text_column: str | None) -> Iterator[dict[str, Any]]:
    """Every row, with the columns that could matter. A file that is cut off or spoilt is named with its place."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtra("pyarrow") from error
    try:
        file = parquet.ParquetFile(path)
    except OSError as error:
        if error.errno is not None and error.filename is not None:
            raise FathomError(f"cannot read {path}: {error.strerror}") from error
        raise _spoilt(path, "its footer", error) from error
    except arrow.ArrowException as error:
        raise _spoilt(path, "its footer", error) from error
    with file:
        names = file.schema_arrow.names
        wanted = [name for name in names if name in _wanted(text_column, names)]
        row = 0
        try:
            for batch in file.iter_batches(_BATCH_ROWS, columns=wanted):
                for values in batch.to_pylist():
                    row += 1
                    yield values
        except (OSError, arrow.ArrowException) as error:
            raise _spoilt(path, f"what follows row {row}", error) from error


def _wanted(text_column: str | None, names: list[str]) -> set[str]:
    """Columns to read: all where the text is not among them, so that a message can list what there is."""
    top = text_column if text_column in names else (text_column or "text").split(".")[0]
    wanted = {top, "id", "license"} if top in names else set(names)
    return wanted | ({"messages", "conversations"} if text_column is None and top not in names else set())


def _spoilt(path: Path, what: str, error: Exception) -> FathomError:
    size = path.stat().st_size
    reason = str(error).splitlines()[0][:200]
    return FathomError(
        f"{path} is cut off or spoilt: {what} cannot be read before byte {size}, where the file ends ({reason}); "
        "fetch the file again"
    )
