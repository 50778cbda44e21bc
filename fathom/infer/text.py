"""Text from tokens as they come: whole characters only, and nothing of a stop string.

A token may end in the middle of a UTF-8 character, and a stop string may begin in one token and end three later. What
could still become either is held back; what turns out to be neither comes out with the next token.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Sequence

from fathom.errors import FathomError


class TextStream:
    """Turns token ids into text piece by piece; the pieces joined are the answer, cut just before the first stop
    string.
    """

    def __init__(self, bytes_of: Callable[[int], bytes], stop: Sequence[str] = ()) -> None:
        """`bytes_of` gives the bytes that a token stands for. Raises `FathomError` for an empty stop string."""
        if any(not text for text in stop):
            raise FathomError("a stop string is empty; it would end every answer at once")
        self.bytes_of = bytes_of
        self.stop = tuple(stop)
        self.stopped_by: str | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def push(self, token: int) -> str:
        """Add one token; returns the text that is certain by now, possibly none. After a stop string nothing comes
        any more.
        """
        return self._add(self._decoder.decode(self.bytes_of(token)), ended=False)

    def end(self) -> str:
        """Say that no token follows; returns what was held back. A character left incomplete becomes U+FFFD."""
        return self._add(self._decoder.decode(b"", final=True), ended=True)

    def pieces(self, tokens: Iterable[int]) -> Iterable[str]:
        """The non-empty pieces of all tokens' text, ending early at a stop string."""
        for token in tokens:
            if piece := self.push(token):
                yield piece
            if self.stopped_by is not None:
                return
        if piece := self.end():
            yield piece

    def _add(self, text: str, *, ended: bool) -> str:
        if self.stopped_by is not None:
            return ""
        held = self._held + text
        found = [(held.find(stop), stop) for stop in self.stop if stop in held]
        if found:
            certain, self.stopped_by = min(found)
        else:
            certain = len(held) if ended else len(held) - self._could_be_stop(held)
        self._held = held[certain:]
        return held[:certain]

    def _could_be_stop(self, held: str) -> int:
        """Length of the longest ending of `held` with which a stop string begins."""
        longest = max((len(stop) for stop in self.stop), default=0) - 1
        for length in range(min(longest, len(held)), 0, -1):
            if any(stop.startswith(held[-length:]) for stop in self.stop):
                return length
        return 0
