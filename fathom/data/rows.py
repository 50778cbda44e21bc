"""A row of a table (a JSON object, a Parquet row) to a document: which column is the text, and what to do without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fathom.data.chat import ROLES, with_reasoning
from fathom.data.sources import Document, ReadCounts
from fathom.errors import FathomError

TEXT_COLUMN = "text"
MESSAGE_COLUMNS = ("messages", "conversations")
_ROWS_TO_FIND_COLUMN = 1000  # a text column that none of the first thousand rows has is misnamed
_SHAREGPT_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "system": "system",
    "tool": "tool",
    "user": "user",
    "assistant": "assistant",
}


@dataclass
class RowReader:
    """Turns the rows of one file or data set into documents and counts what cannot be one."""

    where: str  # for messages: the file's or data set's name
    source: str
    domain: str
    license: str | None  # given by the user; else each row's own `license`
    text_column: str | None  # a name or a dotted path; None: `text`, or `messages`
    counts: ReadCounts
    licenses: Counter[str] = field(default_factory=Counter)
    _columns: dict[str, None] = field(default_factory=dict)

    def documents(self, rows: Iterable[Any], prefix: str) -> Iterator[Document]:
        """Documents of `rows`, numbered from 1 in their ids where they have no `id` of their own."""
        found = False
        number = 0
        for number, row in enumerate(rows, 1):
            text, messages = self._content(row, number)
            found |= text is not _ABSENT
            if not found and number == _ROWS_TO_FIND_COLUMN:
                self._no_column()
            if text is _COUNTED:
                continue
            if text is _ABSENT or text is None:
                self.counts.dropped["no_text"] += 1
                continue
            yield self._document(row, text, messages, f"{prefix}:{number}")
        if number and not found:
            self._no_column()

    def _content(self, row: Any, number: int) -> tuple[Any, list[dict[str, Any]] | None]:
        """(text, messages) of a row; text is None for a null and `_ABSENT` where the column is missing."""
        if isinstance(row, str) and self.text_column is None:
            return row, None
        if not isinstance(row, dict):
            raise FathomError(
                f"{self.where}: row {number} is a {_type_name(row)}; a row must be an object with a text column, or "
                "a string"
            )
        for name in row:
            self._columns.setdefault(name)
        if self.text_column is None and TEXT_COLUMN not in row:
            for name in MESSAGE_COLUMNS:
                if name in row:
                    return self._conversation(row[name])
        value = _at_path(row, self.text_column or TEXT_COLUMN)
        return self._text(value, row, number), None

    def _text(self, value: Any, row: dict[str, Any], number: int) -> Any:
        if value is None or value is _ABSENT or isinstance(value, str):
            return value
        column = self.text_column or TEXT_COLUMN
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            return "\n".join(value)
        inside = (
            f"; choose one of its parts, such as --text-column {column}.{next(iter(value))}"
            if isinstance(value, dict) and value
            else ""
        )
        raise FathomError(
            f"{self.where}: column {column!r} of row {number} holds a {_type_name(value)}, not "
            f"text{inside or f'; the columns are {self._column_list()}'}"
        )

    def _conversation(self, value: Any) -> tuple[Any, list[dict[str, Any]] | None]:
        if value is None:
            return None, None
        messages = [_message(message) for message in value] if isinstance(value, list) else []
        if (
            not messages
            or not all(messages)
            or not any(message["role"] == "assistant" for message in messages if message)
        ):
            self.counts.dropped["no_conversation"] += 1
            return _COUNTED, None
        whole = [with_reasoning(message) for message in messages if message]
        return conversation_text(whole), whole

    def _document(self, row: Any, text: str, messages: list[dict[str, Any]] | None, default_id: str) -> Document:
        fields = row if isinstance(row, dict) else {}
        own = fields.get("license")
        license = self.license or (own if isinstance(own, str) and own else None) or "unknown"
        self.licenses[license] += 1
        id_ = fields.get("id")
        return Document(
            str(id_) if isinstance(id_, str | int) else default_id, text, self.source, license, self.domain, messages
        )

    def _no_column(self) -> None:
        wanted = self.text_column or TEXT_COLUMN
        raise FathomError(
            f"{self.where} has no column {wanted!r}; its columns are {self._column_list()}: choose the text with "
            "--text-column NAME"
        )

    def _column_list(self) -> str:
        return ", ".join(self._columns) or "none"


_ABSENT = object()  # the column is missing
_COUNTED = object()  # no document, and its reason is counted already


def _at_path(row: dict[str, Any], path: str) -> Any:
    """The value at a name, or at a dotted path into nested objects."""
    if path in row:
        return row[path]
    value: Any = row
    for name in path.split("."):
        if value is None:
            return None
        if not isinstance(value, dict) or name not in value:
            return _ABSENT
        value = value[name]
    return value


def _type_name(value: Any) -> str:
    return {
        "dict": "nested object",
        "list": "list",
        "int": "number",
        "float": "number",
        "bool": "truth value",
        "NoneType": "null",
        "bytes": "run of bytes",
    }.get(type(value).__name__, type(value).__name__)


def _message(message: Any) -> dict[str, Any] | None:
    """A message as {role, content}; ShareGPT's {from, value} is read as well. None: it is neither."""
    if not isinstance(message, dict):
        return None
    if "from" in message and "value" in message:
        message = {"role": _SHAREGPT_ROLES.get(message["from"]), "content": message["value"]}
    if message.get("role") not in ROLES or not isinstance(message.get("content"), str):
        return None
    kept = {"role": message["role"], "content": message["content"]}
    if isinstance(message.get("reasoning_content"), str):
        kept["reasoning_content"] = message["reasoning_content"]
    return kept


def conversation_text(messages: list[dict[str, Any]]) -> str:
    """The words of a conversation, for hashing and for training a tokenizer."""
    parts = (text for message in messages for text in (message.get("reasoning_content"), message["content"]) if text)
    return "\n".join(parts)
