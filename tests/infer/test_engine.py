"""Decoding with a cache gives what whole passes give, alone or in company."""

from __future__ import annotations

import random

import pytest
import torch

from fathom.errors import FathomError
from fathom.infer.engine import Engine, Memory, Timing
from fathom.infer.sampling import Sampling
from tests.infer.models import CONFIGS, greedy_by_full_passes, random_decoder


def prompts(count: int, seed: int = 3) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(97) for _ in range(rng.randrange(1, 20))] for _ in range(count)]


@pytest.mark.parametrize("kind", CONFIGS)
def test_cached_decoding_equals_whole_passes_token_for_token(kind: str) -> None:
    decoder = random_decoder(kind)
    engine = Engine(decoder)
    for prompt in prompts(2):
        expected = greedy_by_full_passes(decoder, prompt, 30)
        assert list(engine.stream(prompt, max_new_tokens=30)) == expected


@pytest.mark.parametrize("kind", CONFIGS)
def test_an_answer_is_the_same_alone_and_in_a_batch(kind: str) -> None:
    engine = Engine(random_decoder(kind, seed=1))
    asked = prompts(6)
    whole = engine.generate(asked, max_new_tokens=16)
    stop_ids = {answer.ids[3 + row] for row, answer in enumerate(whole[:4])}  # so that rows end at different times
    alone = [engine.generate([prompt], max_new_tokens=16, stop_ids=stop_ids)[0] for prompt in asked]
    assert engine.generate(asked, max_new_tokens=16, stop_ids=stop_ids) == alone
    assert len({len(answer.ids) for answer in alone}) > 2


def test_a_seeded_row_draws_the_same_whatever_stands_beside_it() -> None:
    engine = Engine(random_decoder("grouped", seed=2))
    asked = prompts(7)
    seeded = Sampling(temperature=0.9, top_p=0.95, seed=42)
    alone = engine.generate([asked[0]], max_new_tokens=20, sampling=seeded)[0]
    others = [Sampling(temperature=1.3), Sampling(), Sampling(temperature=0.7, top_k=4, seed=1)] * 2
    for _ in range(3):
        together = engine.generate(asked, max_new_tokens=20, sampling=[seeded, *others])
        assert together[0] == alone


def test_the_decoder_given_is_left_as_it_was() -> None:
    decoder = random_decoder("latent-experts")
    before = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
    engine = Engine(decoder, dtype=torch.bfloat16)
    engine.generate([[1, 2, 3]], max_new_tokens=5)
    assert engine.decoder is not decoder
    assert all(torch.equal(tensor, before[name]) for name, tensor in decoder.state_dict().items())


@pytest.mark.parametrize("kind", CONFIGS)
def test_held_weights_give_the_logits_of_fp32_within_bf16(kind: str) -> None:
    decoder = random_decoder(kind)
    held = Engine(decoder, dtype=torch.bfloat16).decoder
    tokens_BT = torch.randint(0, 97, (2, 30), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, got = decoder.logits(decoder(tokens_BT)), held.logits(held(tokens_BT))
    agreed = (got - expected).norm(dim=-1) / expected.norm(dim=-1)
    assert agreed.median() < 0.02  # a router near a tie may send single tokens elsewhere
    assert got.dtype == torch.float32


@pytest.mark.parametrize("kind", CONFIGS)
def test_held_weights_give_the_losses_of_fp32_within_bf16(kind: str) -> None:
    decoder = random_decoder(kind)
    held = Engine(decoder, dtype=torch.bfloat16).decoder
    generator = torch.Generator().manual_seed(0)
    tokens_BT, targets_BT = (torch.randint(0, 97, (2, 30), generator=generator) for _ in range(2))
    expected, got = (model.token_losses(tokens_BT, targets_BT) for model in (decoder, held))
    assert (got - expected).abs().median() < 0.05  # a router near a tie may send single tokens elsewhere
    assert got.mean() == pytest.approx(expected.mean().item(), rel=0.02)


def test_experts_held_for_inference_compute_what_the_model_does() -> None:
    decoder = random_decoder("latent-experts")
    held = Engine(decoder, dtype=torch.float64).decoder  # not fp32, so that the copy's own code runs
    tokens_BT = torch.randint(0, 97, (2, 30), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(
            held.logits(held(tokens_BT)), decoder.logits(decoder(tokens_BT)), rtol=1e-4, atol=1e-4
        )


def test_a_remembered_conversation_is_read_only_from_where_it_differs() -> None:
    engine = Engine(random_decoder("latent", seed=4))
    memory = Memory()
    first = list(range(10, 30))
    answer = list(engine.stream(first, max_new_tokens=12, memory=memory))
    second = [*first, *answer, 7, 8, 9]
    stream = engine.stream(second, max_new_tokens=12, memory=memory)
    got = list(stream)
    assert got == greedy_by_full_passes(engine.decoder, second, 12)
    assert stream.timing.reused_tokens == len(first) + len(answer) - 1  # the last token written was never read
    edited = [*first[:5], 90, *first[6:]]
    assert list(engine.stream(edited, max_new_tokens=6, memory=memory)) == greedy_by_full_passes(
        engine.decoder, edited, 6
    )
    assert list(engine.stream(first, max_new_tokens=6, memory=memory)) == answer[:6]


def test_an_abandoned_stream_leaves_a_memory_that_can_be_trusted() -> None:
    engine = Engine(random_decoder("grouped", seed=4))
    memory, prompt = Memory(), list(range(20, 40))
    stream = iter(engine.stream(prompt, max_new_tokens=30, memory=memory))
    begun = [next(stream) for _ in range(5)]
    stream.close()
    longer = [*prompt, *begun, 3, 4]
    assert list(engine.stream(longer, max_new_tokens=8, memory=memory)) == greedy_by_full_passes(
        engine.decoder, longer, 8
    )


def test_answers_end_at_the_limit_at_the_window_and_at_a_stop_token() -> None:
    engine = Engine(random_decoder("grouped"))
    [short] = engine.generate([[1, 2]], max_new_tokens=10)
    assert (len(short.ids), short.finish_reason) == (10, "length")
    [full] = engine.generate([[1] * 90], max_new_tokens=50)
    assert (len(full.ids), full.finish_reason) == (6, "context")
    [stopped] = engine.generate([[1, 2]], max_new_tokens=10, stop_ids={short.ids[3]})
    first = short.ids.index(short.ids[3])
    assert (stopped.ids, stopped.finish_reason) == (short.ids[:first], "stop")
    exact = engine.generate([[1] * 90], max_new_tokens=6)[0]
    assert exact.finish_reason == "length"


def test_what_was_counted_is_what_was_done() -> None:
    engine = Engine(random_decoder("grouped"))
    timing = Timing()
    answers = engine.generate([[1, 2, 3], [4]], max_new_tokens=7, timing=timing)
    assert timing.prompt_tokens == 4
    assert timing.new_tokens == sum(len(answer.ids) for answer in answers) == 14
    assert timing.prefill_seconds > 0
    assert timing.decode_tokens_per_second == pytest.approx(14 / timing.decode_seconds)


@pytest.mark.parametrize(
    ("prompt", "words"), [([], "empty"), ([1, 97], "outside the vocabulary of 97"), ([1] * 96, "96 tokens")]
)
def test_prompts_that_cannot_be_read_are_refused_at_once(prompt: list[int], words: str) -> None:
    engine = Engine(random_decoder("grouped"))
    with pytest.raises(FathomError, match=words):
        engine.stream(prompt, max_new_tokens=5)


def test_no_answer_and_mismatched_settings_are_refused() -> None:
    engine = Engine(random_decoder("grouped"))
    with pytest.raises(FathomError, match="max_new_tokens is 0"):
        engine.generate([[1]], max_new_tokens=0)
    with pytest.raises(FathomError, match="2 sampling settings were given for 1 prompts"):
        engine.generate([[1]], max_new_tokens=1, sampling=[Sampling(), Sampling()])
    assert engine.generate([], max_new_tokens=1) == []


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 9])
def test_products_of_few_rows_are_those_of_many(rows: int) -> None:
    from fathom.infer.weights import product

    generator = torch.Generator().manual_seed(rows)
    weight_OI = torch.randn(70, 53, generator=generator).bfloat16()  # sizes that fill no vector register evenly
    x_BTI = torch.randn(rows, 1, 53, generator=generator)
    expected = x_BTI @ weight_OI.float().T
    assert (product(x_BTI, weight_OI) - expected).norm() / expected.norm() < 5e-3
    transposed = torch.randn(53, rows, generator=generator).T  # not contiguous
    assert (product(transposed, weight_OI) - transposed @ weight_OI.float().T).abs().max() < 0.2
