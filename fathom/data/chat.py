"""Conversations to token ids, the same way for training, chat and evaluation.

The template is rendered with every control token in the messages broken by a character that occurs nowhere else; the
control tokens left in the rendered text are then exactly those that the template wrote. Each becomes its one id, the
text between them is encoded as ordinary text with the breaks taken out again. So ids equal those of
`transformers.apply_chat_template` for ordinary messages, and nobody can close his own turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

from fathom.data.template import TemplateRefused, render_template
from fathom.data.tokenizer import THINK_CLOSE, THINK_OPEN, Tokenizer
from fathom.errors import FathomError

Message = dict[str, Any]
ROLES = ("system", "developer", "user", "assistant", "tool")
_BREAKS = [chr(code) for code in range(0xFDD0, 0xFDF0)]  # Unicode noncharacters: never in interchanged text


@dataclass(frozen=True)
class Rendered:
    """A conversation as ids, and for each id whether it belongs to an assistant's answer (end of turn included)."""

    ids: list[int]
    answer_mask: list[bool]
    answer_bytes: int = 0  # UTF-8 bytes of the answers' ordinary text


@dataclass(frozen=True)
class _Segment:
    """A run of rendered text: one control token (`token_id`) or ordinary text, inside an answer or outside."""

    text: str
    token_id: int | None
    answer: bool
    continues: bool  # something precedes it: no space is to be put before it


def split_thinking(answer: str) -> tuple[str | None, str]:
    """(thinking, answer) of a text that begins with one `<think>...</think>`; thinking is None where there is none."""
    if answer.startswith(THINK_OPEN) and THINK_CLOSE in answer:
        thinking, rest = answer[len(THINK_OPEN) :].split(THINK_CLOSE, 1)
        return thinking, rest
    return None, answer


def with_reasoning(message: Message) -> Message:
    """An assistant's message whose content begins with written-out thinking, with that moved to `reasoning_content`.

    This is how data sets of worked answers are read; in a conversation's own messages the tags stay text.
    """
    if (
        message.get("role") != "assistant"
        or not isinstance(message.get("content"), str)
        or "reasoning_content" in message
    ):
        return message
    thinking, answer = split_thinking(message["content"])
    return message if thinking is None else {**message, "content": answer, "reasoning_content": thinking}


def render(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    add_generation_prompt: bool,
    **variables: Any,
) -> Rendered:
    """Ids of a conversation. `variables` reach the template (`tools`, `enable_thinking`, ...).

    Raises `FathomError` for a tokenizer without template, a message without role or content, a refused template.
    """
    (rendered,) = render_batch(tokenizer, [messages], add_generation_prompt, **variables)
    assert rendered is not None
    return rendered


def render_batch(
    tokenizer: Tokenizer,
    conversations: Iterable[Sequence[Message]],
    add_generation_prompt: bool,
    *,
    skip_refused: bool = False,
    **variables: Any,
) -> Iterator[Rendered | None]:
    """`render` for many conversations: their texts are encoded together on all cores.

    With `skip_refused` a conversation that the template refuses gives None; a template that overruns its limits
    raises all the same.
    """
    segments: list[list[_Segment] | None] = []
    for messages in conversations:
        try:
            segments.append(_segments(tokenizer, list(messages), add_generation_prompt, variables))
        except TemplateRefused as refusal:
            if not skip_refused or refusal.overrun:
                raise
            segments.append(None)
    texts = [part for parts in segments for part in parts or () if part.token_id is None]
    encoded = tokenizer.encode_batch((part.text for part in texts), [part.continues for part in texts])
    for parts in segments:
        yield None if parts is None else _joined(tokenizer, parts, encoded)


def _joined(tokenizer: Tokenizer, parts: list[_Segment], encoded: Iterator[list[int]]) -> Rendered:
    ids: list[int] = []
    mask: list[bool] = []
    for part in parts:
        piece = next(encoded) if part.token_id is None else [part.token_id]
        ids += piece
        mask += [part.answer] * len(piece)
    answer_bytes = sum(tokenizer.count_bytes(part.text) for part in parts if part.answer and part.token_id is None)
    return Rendered(ids, mask, answer_bytes)


def _segments(tokenizer: Tokenizer, messages: list[Message], prompt: bool, variables: dict[str, Any]) -> list[_Segment]:
    if tokenizer.chat_template is None:
        raise FathomError("this tokenizer has no chat template, so it can complete text but not hold a conversation")
    _check_messages(messages)
    break_char = _free_character([messages, variables])
    safe_messages = _broken(messages, tokenizer, break_char)
    safe_variables = _broken(variables, tokenizer, break_char)

    def rendered(up_to: int, prompt: bool) -> str:
        values = {
            **tokenizer.special_tokens,
            **safe_variables,
            "messages": safe_messages[:up_to],
            "add_generation_prompt": prompt,
        }
        return render_template(tokenizer.chat_template or "", values)

    text = rendered(len(messages), prompt)
    return _cut(tokenizer, text, _answer_spans(tokenizer, messages, text, rendered), break_char)


def _check_messages(messages: list[Message]) -> None:
    if not messages:
        raise FathomError("a conversation needs at least one message")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            role = message.get("role") if isinstance(message, dict) else message
            raise FathomError(f"message {number} has the role {role!r}; it must be one of {', '.join(ROLES)}")
        if not isinstance(message.get("content"), str) and not message.get("tool_calls"):
            raise FathomError(f"message {number} (role {message['role']}) has no text in 'content'")


# -- breaking control tokens in messages -------------------------------------------------------------------------


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _free_character(value: Any) -> str:
    used = {char for text in _strings(value) if not text.isascii() for char in text}
    for char in _BREAKS:
        if char not in used:
            return char
    raise FathomError("the messages use all 32 Unicode noncharacters U+FDD0 to U+FDEF; at least one must be free")


def _broken(value: Any, tokenizer: Tokenizer, char: str) -> Any:
    if isinstance(value, str):
        return break_control_tokens(value, tokenizer, char)
    if isinstance(value, dict):
        return {_broken(key, tokenizer, char): _broken(item, tokenizer, char) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_broken(item, tokenizer, char) for item in value]
    return value


def break_control_tokens(text: str, tokenizer: Tokenizer, char: str) -> str:
    """`text` with `char` put into every control token, and into whatever could become one beside a template's text."""
    pattern, tails, heads = _control_patterns(tokenizer)
    while (broken := pattern.sub(lambda match: match[0][0] + char + match[0][1:], text)) != text:
        text = broken  # again, for tokens that overlap
    longest = max(map(len, tails), default=0)
    for size in range(min(longest, len(text)), 0, -1):  # ends like the beginning of a control token
        if text[-size:] in tails:
            text = text[: len(text) - size + 1] + char + text[len(text) - size + 1 :]
            break
    for size in range(min(longest, len(text)), 0, -1):  # begins like the end of one
        if text[:size] in heads:
            text = text[: size - 1] + char + text[size - 1 :]
            break
    return text


_Patterns = tuple[re.Pattern[str], frozenset[str], frozenset[str]]
_PATTERNS: WeakKeyDictionary[Tokenizer, _Patterns] = WeakKeyDictionary()


def _control_patterns(tokenizer: Tokenizer) -> _Patterns:
    """(a pattern of all control tokens, what they begin with, what they end with)."""
    if tokenizer not in _PATTERNS:
        tokens = [token for token in tokenizer.control_tokens if len(token) > 1]
        longest_first = sorted(tokens, key=lambda token: (-len(token), token))
        pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        tails = frozenset(token[:cut] for token in tokens for cut in range(1, len(token)))
        heads = frozenset(token[cut:] for token in tokens for cut in range(1, len(token)))
        _PATTERNS[tokenizer] = (pattern, tails, heads)
    return _PATTERNS[tokenizer]


# -- answers, and cutting the rendered text ----------------------------------------------------------------------


def _answer_spans(tokenizer: Tokenizer, messages: list[Message], text: str, rendered: Any) -> list[tuple[int, int]]:
    """Character spans of the assistant's answers: what each adds to the prompt that would have asked for it.

    A template may leave earlier thoughts out of a longer conversation; such an answer is not the one that was
    given to that prompt, so only spans that the whole text agrees with are answers.
    """
    spans = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        try:
            before, after = rendered(index, True), rendered(index + 1, False)
        except TemplateRefused:
            continue  # a template that cannot start here (an assistant speaks first) has no prompt for this answer
        if text.startswith(after) and after.startswith(before):
            end = _end_of_turn(tokenizer, text, len(before), len(after))
            spans.append((len(before), end))
    return spans


def _end_of_turn(tokenizer: Tokenizer, text: str, start: int, end: int) -> int:
    """Where an answer stops: after the last token that ends a turn, if only white space follows it."""
    ends = [token for token, id_ in tokenizer.control_tokens.items() if id_ in tokenizer.eos_ids]
    stripped = text[start:end].rstrip()
    if any(stripped.endswith(token) for token in ends):
        return start + len(stripped)
    return end


def _cut(tokenizer: Tokenizer, text: str, spans: list[tuple[int, int]], break_char: str) -> list[_Segment]:
    """Cut the rendered text at control tokens and at the borders of answers."""
    borders = sorted(border for span in spans for border in span)
    segments: list[_Segment] = []
    for first, last, token_id in _pieces(tokenizer, text):
        inside = [border for border in borders if first < border < last] if token_id is None else []
        for start, end in pairwise([first, *inside, last]):
            answer = any(begin <= start and end <= stop for begin, stop in spans)
            plain = text[start:end] if token_id is not None else text[start:end].replace(break_char, "")
            if plain:
                segments.append(_Segment(plain, token_id, answer, bool(segments)))
    return segments


def _pieces(tokenizer: Tokenizer, text: str) -> Iterator[tuple[int, int, int | None]]:
    """(start, end, id) of control tokens and of the texts between; some tokens swallow the white space beside them."""
    pattern, _, _ = _control_patterns(tokenizer)
    at = 0
    for match in pattern.finditer(text):
        strips_left, strips_right = tokenizer.strips(match[0])
        end = at + len(text[at : match.start()].rstrip()) if strips_left else match.start()
        yield at, end, None
        yield match.start(), match.end(), tokenizer.control_tokens[match[0]]
        at = match.end()
        if strips_right:
            at = len(text) - len(text[at:].lstrip())
    yield at, len(text), None
