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
    return next(render_batch(tokenizer, [messages], add_generation_prompt, **variables))


def render_batch(
    tokenizer: Tokenizer, conversations: Iterable[Sequence[Message]], add_generation_prompt: bool, **variables: Any
) -> Iterator[Rendered]:
    """`render` for many conversations: their texts are encoded together on all cores."""
    segments = [_segments(tokenizer, list(messages), add_generation_prompt, variables) for messages in conversations]
    texts = (segment.text for parts in segments for segment in parts if segment.token_id is None)
    encoded = tokenizer.encode_batch(texts)
    for parts in segments:
        ids: list[int] = []
        mask: list[bool] = []
        for part in parts:
            piece = next(encoded) if part.token_id is None else [part.token_id]
            ids += piece
            mask += [part.answer] * len(piece)
        answer_bytes = sum(tokenizer.count_bytes(part.text) for part in parts if part.answer and part.token_id is None)
        yield Rendered(ids, mask, answer_bytes)


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
    if match := tails.search(text):  # ends like the beginning of a control token
        text = text[: match.start() + 1] + char + text[match.start() + 1 :]
    if match := heads.match(text):  # begins like the end of one
        text = text[: match.end() - 1] + char + text[match.end() - 1 :]
    return text


def _control_patterns(tokenizer: Tokenizer) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    cached = tokenizer.__dict__.get("_control_patterns")
    if cached is None:
        tokens = [token for token in tokenizer.control_tokens if len(token) > 1]
        whole = _alternation(tokens)
        tails = _alternation({token[:cut] for token in tokens for cut in range(1, len(token))})
        heads = _alternation({token[cut:] for token in tokens for cut in range(1, len(token))})
        cached = (re.compile(whole), re.compile(f"(?:{tails})\\Z"), re.compile(heads))
        tokenizer.__dict__["_control_patterns"] = cached
    return cached


def _alternation(texts: Iterable[str]) -> str:
    longest_first = sorted(texts, key=lambda text: (-len(text), text))
    return "|".join(map(re.escape, longest_first)) or r"(?!)"


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
    borders = sorted({0, len(text), *(border for span in spans for border in span)})
    pattern, _, _ = _control_patterns(tokenizer)
    segments: list[_Segment] = []
    for start, end in pairwise(borders):
        answer = any(first <= start and end <= last for first, last in spans)
        at = start
        for match in pattern.finditer(text, start, end):
            segments.append(_Segment(text[at : match.start()], None, answer))
            segments.append(_Segment(match[0], tokenizer.control_tokens[match[0]], answer))
            at = match.end()
        segments.append(_Segment(text[at:end], None, answer))
    return [
        segment
        if segment.token_id is not None
        else _Segment(segment.text.replace(break_char, ""), None, segment.answer)
        for segment in segments
        if segment.text
    ]
