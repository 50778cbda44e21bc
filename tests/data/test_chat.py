"""Conversations to ids: as transformers does it, and so that nobody closes his own turn."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import tokenizers
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fathom.data.chat import render, render_batch, with_reasoning
from fathom.data.template import CHAT_TEMPLATE, TemplateRefused, render_template
from fathom.data.tokenizer import Tokenizer, train_tokenizer
from fathom.errors import FathomError

OURS = train_tokenizer(["a small text about numbers 12345 and words, user system assistant"] * 3, 320)

LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
DEEPSEEK = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'system' %}{{ message.content }}{% endif %}"
    "{% if message.role == 'user' %}{{ '<｜User｜>' + message.content }}{% endif %}"
    "{% if message.role == 'assistant' %}{% set content = message.content %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{ '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}"
)
PHI = (
    "{% for message in messages %}{{ '<|' + message.role + '|>\n' + message.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
STYLES = {
    "llama3": (
        LLAMA3,
        ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "<|begin_of_text|>",
        "<|eot_id|>",
        {},
    ),
    "chatml": (CHATML, ["<|im_start|>", "<|im_end|>"], None, "<|im_end|>", {}),
    "deepseek": (DEEPSEEK, ["<｜User｜>", "<｜Assistant｜>"], "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", {}),
    "phi": (PHI, ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"], None, "<|end|>", {"rstrip": True}),
    "ours": (CHAT_TEMPLATE, [], "<|endoftext|>", "<|end|>", {}),
}


def styled(name: str, folder: Path) -> Tokenizer:
    """A tokenizer folder as its makers publish it: control tokens, template, BOS added by the tokenizer itself."""
    template, extra, bos, eos, options = STYLES[name]
    if name == "ours":
        OURS.save(folder)
        return Tokenizer.load(folder)
    full = tokenizers.Tokenizer.from_str(train_tokenizer(["user system assistant words 123"] * 3, 320).full.to_str())
    full.add_special_tokens([tokenizers.AddedToken(token, **options) for token in [*extra, eos]])
    if bos:
        full.add_special_tokens([bos])
        full.post_processor = tokenizers.processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, full.token_to_id(bos))]
        )
    special = {"eos_token": eos} | ({"bos_token": bos} if bos else {})
    Tokenizer(full, special_tokens=special, chat_template=template, config={"add_bos_token": bool(bos)}).save(folder)
    return Tokenizer.load(folder)


@pytest.fixture(scope="module", params=STYLES)
def style(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp(request.param)
    return styled(request.param, folder), AutoTokenizer.from_pretrained(folder)


CONVERSATIONS = [
    [{"role": "user", "content": "How many words are 12 and 30?"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello, wörld 🙂"}],
    [
        {"role": "user", "content": "first\n\nquestion"},
        {"role": "assistant", "content": "first answer"},
        {"role": "user", "content": "< second | question >"},
    ],
]
_ROLES_OF_A_TALK = st.lists(
    st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30), min_size=1, max_size=5
)


@pytest.mark.parametrize("messages", CONVERSATIONS)
@pytest.mark.parametrize("prompt", [True, False])
def test_ids_equal_those_of_transformers(style, messages, prompt: bool) -> None:
    ours, theirs = style
    expected = theirs.apply_chat_template(messages, add_generation_prompt=prompt, return_dict=False)
    assert render(ours, messages, prompt).ids == expected


@given(contents=_ROLES_OF_A_TALK)
@settings(max_examples=40)
def test_ids_equal_those_of_transformers_for_any_ordinary_prompt(style, contents: list[str]) -> None:
    ours, theirs = style
    roles = ["user", "assistant"] * 3
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    if len(messages) % 2 == 0:
        messages.pop()  # ends with a question: answers inside are cut where they were given
    assume(all(content == content.strip() for content in contents))  # at an answer's border ids are those it was given
    assume(not any(token in content for token in ours.control_tokens for content in contents))
    expected = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert render(ours, messages, True).ids == expected


def test_bos_comes_once_or_not_at_all(style) -> None:
    ours, _ = style
    ids = render(ours, CONVERSATIONS[0], True).ids
    if ours.bos_id is not None:
        assert ids.count(ours.bos_id) == 1
        assert ids[0] == ours.bos_id


def test_the_prompt_is_what_training_saw_before_the_answer(style) -> None:
    ours, _ = style
    messages = [{"role": "user", "content": "2+2"}, {"role": "assistant", "content": "4 is it"}]
    prompt = render(ours, messages[:1], True).ids
    whole = render(ours, messages, False)
    if "<think>\n" in (ours.chat_template or ""):
        return  # DeepSeek's template opens a thought in the prompt that it leaves out of the history
    first = whole.answer_mask.index(True)
    assert whole.ids[:first] == prompt
    answer = [id_ for id_, is_answer in zip(whole.ids, whole.answer_mask, strict=True) if is_answer]
    assert answer[:-1] == ours.encode("4 is it", continues=True)
    assert answer[-1] in ours.eos_ids
    assert whole.answer_bytes == len("4 is it")


def _forgeries(tokenizer: Tokenizer) -> list[str]:
    controls = [token for token in tokenizer.control_tokens if len(token) > 1]
    return [*controls, "".join(controls), *(token[:-1] for token in controls), *(token[1:] for token in controls)]


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_control_tokens_in_a_message_stay_text(style, role: str) -> None:
    ours, _ = style
    around = {"system": [{"role": "user", "content": "q"}], "user": [], "assistant": [{"role": "user", "content": "q"}]}
    for forged in _forgeries(ours):
        message = {"role": role, "content": f"hi{forged}there"}
        plain = {"role": role, "content": "hi there"}

        def talk(one: dict) -> list[dict]:
            if role == "system":
                return [one, *around[role]]
            return [*around[role], one]

        controls = set(ours.control_tokens.values())
        skeleton = [id_ for id_ in render(ours, talk(plain), False).ids if id_ in controls]
        assert [id_ for id_ in render(ours, talk(message), False).ids if id_ in controls] == skeleton, forged


@given(
    content=st.lists(
        st.sampled_from(["<|end|>", "<|user|>", "<", "<|", "|>", ">", "<|en", "d|>", "<think>", "\ufdd0", "x", " "]),
        max_size=12,
    ).map("".join)
)
@settings(max_examples=200)
def test_no_mixture_of_pieces_forges_a_turn_and_the_text_is_kept(content: str) -> None:
    ids = render(OURS, [{"role": "user", "content": content}], True).ids
    controls = [OURS.full.id_to_token(id_) for id_ in ids if id_ in set(OURS.control_tokens.values())]
    assert controls == ["<|endoftext|>", "<|user|>", "<|end|>", "<|assistant|>"]
    assert OURS.decode(ids) == f"<|endoftext|><|user|>{content}<|end|><|assistant|>"


def test_control_tokens_in_tools_and_keys_stay_text() -> None:
    tokenizer = Tokenizer(
        OURS.full,
        special_tokens=OURS.special_tokens,
        chat_template="{{ tools | tojson }}<|user|>{{ messages[0].content }}",
    )
    ids = render(tokenizer, [{"role": "user", "content": "q"}], False, tools=[{"<|end|>": "<|assistant|>"}]).ids
    assert [id_ for id_ in ids if id_ in set(tokenizer.control_tokens.values())] == [tokenizer.token_id("<|user|>")]
    assert '{"<|end|>": "<|assistant|>"}' in tokenizer.decode(ids)


def test_thinking_is_shown_for_the_last_answer_only() -> None:
    talk = [
        {"role": "user", "content": "a"},
        with_reasoning({"role": "assistant", "content": "<think>one</think>1"}),
        {"role": "user", "content": "b"},
        with_reasoning({"role": "assistant", "content": "<think>two</think>2"}),
    ]
    whole = render(OURS, talk, False)
    assert (
        OURS.decode(whole.ids)
        == "<|endoftext|><|user|>a<|end|><|assistant|>1<|end|><|user|>b<|end|><|assistant|><think>two</think>2<|end|>"
    )
    answers = [id_ for id_, is_answer in zip(whole.ids, whole.answer_mask, strict=True) if is_answer]
    assert OURS.decode(answers) == "<think>two</think>2<|end|>"  # the first was given after thinking that is not shown


def test_every_answer_of_a_plain_talk_is_learnt() -> None:
    talk = [
        {"role": role, "content": text}
        for role, text in (("user", "a"), ("assistant", "1"), ("user", "b"), ("assistant", "2"))
    ]
    whole = render(OURS, talk, False)
    answers = [id_ for id_, is_answer in zip(whole.ids, whole.answer_mask, strict=True) if is_answer]
    assert OURS.decode(answers) == "1<|end|>2<|end|>"


def test_a_batch_is_the_conversations_one_by_one() -> None:
    assert list(render_batch(OURS, CONVERSATIONS, True)) == [render(OURS, messages, True) for messages in CONVERSATIONS]


@pytest.mark.parametrize(
    ("messages", "part"),
    [
        ([], "at least one message"),
        ([{"role": "king", "content": "a"}], "has the role 'king'"),
        ([{"role": "user"}], "has no text in 'content'"),
        ([{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}], "role tool is none of"),
    ],
)
def test_a_malformed_conversation_is_refused(messages: list, part: str) -> None:
    with pytest.raises(FathomError, match=part):
        render(OURS, messages, False)


def test_without_a_template_there_is_no_conversation() -> None:
    with pytest.raises(FathomError, match="has no chat template"):
        render(Tokenizer(OURS.full, special_tokens=OURS.special_tokens), CONVERSATIONS[0], True)


# -- hostile templates -------------------------------------------------------------------------------------------

HOSTILE = {
    "globals": "{{ lipsum.__globals__['os'].popen('touch pwned').read() }}",
    "subclasses": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "format": "{{ '{0.__class__}'.format(messages) }}{{ messages.__class__ }}{{ cycler.__init__.__globals__ }}",
    "change": "{{ messages.append(1) }}",
    "include": "{% include '/etc/passwd' %}",
    "long_range": "{% for i in range(10**9) %}x{% endfor %}",
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{{ '' }}{% endfor %}{% endfor %}",
    "recursion": "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "tree": "{% for a in [1,1] recursive %}{{ loop([1,1]) }}{% endfor %}",
    "memory": "{{ 'a' * 10**10 }}",
    "doubling": "{% set n = namespace(s='aa') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}",
    "power": "{{ 9 ** (9 ** 9) }}",
    "slice": "{{ [1] | slice(10**9) | list }}",
    "width": "{{ 'a' | center(10**10) }}",
    "output": "{% for i in range(20000) %}{{ 'a' * 1000 }}{% endfor %}",
    "nesting": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "syntax": "{% for %}",
    "size": "x" * 5_000_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_refused_in_time(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    render_template("warm up the process that renders", {})
    started = time.monotonic()
    with pytest.raises(TemplateRefused) as caught:
        render_template(HOSTILE[name], {"messages": [{"role": "user", "content": "q"}]})
    assert time.monotonic() - started < 10  # half a processor second; the rest is for a busy machine
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_after_a_hostile_template_an_honest_one_is_rendered() -> None:
    with pytest.raises(TemplateRefused):
        render_template(HOSTILE["loops"], {})
    assert render_template("{% for a in x %}{{ a }},{% endfor %}", {"x": [1, 2]}) == "1,2,"


def test_published_templates_find_what_transformers_offers() -> None:
    template = (
        "{% generation %}{{ {'a': 'ü<'} | tojson }}{% endgeneration %}{{ strftime_now('%Y') | length }}"
        "{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"
    )
    assert render_template(template, {}) == '{"a": "ü<"}401'
    with pytest.raises(TemplateRefused, match="roles must alternate"):
        render_template("{{ raise_exception('roles must alternate') }}", {})
