"""Draws follow the distribution that the same settings mean in `transformers`."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fathom.errors import FathomError
from fathom.infer import sampling as module
from fathom.infer.sampling import Sampler, Sampling


def expected_probabilities(logits_V: torch.Tensor, prompt: list[int], setting: Sampling) -> torch.Tensor:
    """What transformers' logits processors make of the logits."""
    from transformers import generation as processors

    scores = logits_V[None]
    ids = torch.tensor([prompt])
    if setting.repetition_penalty != 1:
        scores = processors.RepetitionPenaltyLogitsProcessor(setting.repetition_penalty)(ids, scores)
    scores = processors.TemperatureLogitsWarper(setting.temperature)(ids, scores)
    if setting.top_k:
        scores = processors.TopKLogitsWarper(setting.top_k)(ids, scores)
    if setting.top_p < 1:
        scores = processors.TopPLogitsWarper(setting.top_p)(ids, scores)
    if setting.min_p:
        scores = processors.MinPLogitsWarper(setting.min_p)(ids, scores)
    return scores[0].softmax(-1)


SETTINGS = [
    Sampling(temperature=0.8, seed=1),
    Sampling(temperature=1.5, top_k=7, seed=2),
    Sampling(temperature=1.0, top_p=0.8, seed=3),
    Sampling(temperature=1.2, min_p=0.1, seed=4),
    Sampling(temperature=1.1, top_k=20, top_p=0.7, min_p=0.05, repetition_penalty=1.8, seed=5),
]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("shortlist", [4, 512])  # with 4 most rows need more than the shortlist
def test_draws_have_the_frequencies_of_transformers(
    setting: Sampling, shortlist: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHORTLIST", shortlist)
    logits_V = torch.randn(40, generator=torch.Generator().manual_seed(7)) * 2
    prompt = [int(logits_V.argmax()), 3, 3]
    draws = 1500
    sampler = Sampler([dataclasses.replace(setting, seed=seed) for seed in range(draws)], [prompt] * draws, 40)
    counts = torch.bincount(sampler.pick(logits_V.expand(draws, -1)), minlength=40)
    expected = expected_probabilities(logits_V, prompt, setting)
    assert counts[expected == 0].sum() == 0
    sigma = (expected * (1 - expected) / draws).sqrt()
    assert bool(((counts / draws - expected).abs() <= 4.5 * sigma + 3 / draws).all())  # a rare token may come thrice


def test_shortlist_and_whole_sort_draw_the_same_token(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(30, 300, generator=torch.Generator().manual_seed(0)) * 3
    drawn = []
    for shortlist in (8, 299, 512):
        monkeypatch.setattr(module, "_SHORTLIST", shortlist)
        sampler = Sampler([Sampling(temperature=0.7, top_p=0.9, seed=s) for s in range(30)], [[0]] * 30, 300)
        drawn.append(torch.stack([sampler.pick(logits) for _ in range(5)]))
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[1], drawn[2])


def test_temperature_zero_takes_the_likeliest_whatever_else_is_set() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(1))
    settings = [Sampling(top_k=5, seed=1), Sampling(temperature=1e-4, seed=2), Sampling(top_p=0.1)]
    assert torch.equal(Sampler(settings, [[0]] * 3, 50).pick(logits), logits.argmax(-1))


def test_a_repetition_penalty_counts_prompt_and_answer() -> None:
    sampler = Sampler([Sampling(repetition_penalty=10.0)], [[2]], 4)
    logits = torch.tensor([[1.0, 2.0, 3.0, -1.0]])
    assert [int(sampler.pick(logits)) for _ in range(3)] == [1, 0, 2]


def test_rows_keep_their_own_draws_when_others_leave() -> None:
    logits = torch.randn(3, 60, generator=torch.Generator().manual_seed(2))
    settings = [Sampling(temperature=1.0, seed=seed) for seed in (1, 2, 3)]
    alone = Sampler([settings[2]], [[0]], 60)
    expected = [int(alone.pick(logits[2:])) for _ in range(300)]
    sampler = Sampler(settings, [[0]] * 3, 60)
    got = [int(sampler.pick(logits)[2]) for _ in range(200)]
    sampler.keep(torch.tensor([2]))
    got += [int(sampler.pick(logits[2:])) for _ in range(100)]
    assert got == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", -0.1), ("temperature", float("nan")), ("top_p", 0.0), ("top_p", 1.1), ("top_k", -1), ("min_p",
     1.0), ("repetition_penalty", 0.0), ("seed", -1)],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(FathomError, match=f"{name} = "):
        Sampling(**{name: value})
