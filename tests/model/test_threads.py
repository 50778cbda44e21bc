"""Rows divided among threads: the same sums as by one thread, the same bits every time, accumulation as before."""

import pytest
import torch

from fathom.model import kernels
from fathom.model.threads import threads_pay
from tests.model.conftest import LATENT, build

pytestmark = pytest.mark.skipif(not kernels.available(), reason="no C++ compiler on this machine")


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def batch(rows=3):
    tokens = torch.randint(0, 61, (rows, 40), generator=torch.Generator().manual_seed(0))
    documents = torch.arange(40).expand(rows, -1) // 17
    mask = torch.ones(rows, 40, dtype=torch.bool)
    mask[0, :5] = False
    return tokens, tokens.roll(-1, 1), documents, None, mask


def trained(threads, times=1):
    torch.set_num_threads(threads)
    decoder = build(LATENT)
    decoder.compute_dtype = torch.bfloat16
    assert threads_pay(decoder, batch()[0]) == (threads > 1)
    for _ in range(times):
        parts = decoder.loss(*batch())
        (parts.total / parts.num_tokens).backward()
    return parts, [p.grad for p in decoder.parameters()], torch.stack(decoder.router_state())


def test_divided_rows_have_the_sums_of_undivided_ones():
    (ours, gradients, load), (expected, wanted, wanted_load) = trained(2), trained(1)
    assert torch.equal(load, wanted_load)
    assert (ours.num_tokens, ours.num_mtp_tokens) == (expected.num_tokens, expected.num_mtp_tokens)
    for name in ("total", "cross_entropy_sum", "mtp_sum", "balance"):
        torch.testing.assert_close(getattr(ours, name), getattr(expected, name), rtol=1e-3, atol=1e-3)
    for mine, theirs in zip(gradients, wanted, strict=True):
        assert (mine - theirs).norm() <= 2e-2 * theirs.norm()


def test_the_same_threads_give_the_same_bits_over_accumulated_batches():
    (_, first, _), (_, second, _) = trained(2, times=3), trained(2, times=3)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_evaluation_and_exact_fp32_are_not_divided():
    decoder = build(LATENT)
    assert not threads_pay(decoder, batch()[0])
    decoder.compute_dtype = torch.bfloat16
    with torch.no_grad():
        assert not threads_pay(decoder, batch()[0])
        assert not decoder.loss(*batch()).total.requires_grad
