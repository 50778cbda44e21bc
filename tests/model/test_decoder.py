"""A decoder's promises: packing changes nothing, sums add up, only training counts, decoding equals the full pass."""

import pytest
import torch
import torch.nn.functional as F

from fathom.errors import FathomError
from fathom.model.config import ModelConfig
from fathom.model.decoder import Decoder
from tests.model.conftest import GROUPED, LATENT, build

LENGTHS = (5, 1, 14)


def packed_batch(seed=0, vocab=61):
    """One row of three documents, one of them a single token."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, vocab, (1, sum(LENGTHS) + 1), generator=generator)
    documents = torch.cat([torch.full((n,), i) for i, n in enumerate(LENGTHS)])[None]
    positions = torch.cat([torch.arange(n) for n in LENGTHS])[None]
    return tokens[:, :-1], tokens[:, 1:], documents, positions


def apart(decoder, tokens, targets):
    """Per-token losses of the same documents, one at a time."""
    pieces = zip(tokens.split(LENGTHS, 1), targets.split(LENGTHS, 1), strict=True)
    return torch.cat([decoder.token_losses(a, b) for a, b in pieces], 1)


def test_packed_documents_cost_what_they_cost_apart(decoder):
    tokens, targets, documents, positions = packed_batch()
    packed = decoder.token_losses(tokens, targets, documents_BT=documents, positions_BT=positions)
    torch.testing.assert_close(packed, apart(decoder, tokens, targets), atol=1e-5, rtol=0)


def test_packed_documents_cost_what_they_cost_apart_in_bf16(decoder):
    decoder.compute_dtype = torch.bfloat16
    tokens, targets, documents, positions = packed_batch()
    packed = decoder.token_losses(tokens, targets, documents_BT=documents, positions_BT=positions)
    torch.testing.assert_close(packed, apart(decoder, tokens, targets), atol=0.06, rtol=0)


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_another_first_document_does_not_move_the_others(decoder, rows):
    tokens, targets, documents, positions = (x.expand(rows, -1) for x in packed_batch())
    other = tokens.clone()
    other[:, : LENGTHS[0]] = (other[:, : LENGTHS[0]] + 1) % 61
    losses = [decoder.token_losses(x, targets, documents_BT=documents, positions_BT=positions) for x in (tokens, other)]
    later = [loss[:, LENGTHS[0] :] for loss in losses]
    torch.testing.assert_close(*later, atol=1e-5, rtol=0)
    assert (losses[0] - losses[1]).abs().max() > 1e-2


def test_multi_token_targets_stay_in_their_document_and_row():
    decoder = build(LATENT)
    tokens, targets, documents, positions = packed_batch()
    parts = decoder.loss(tokens, targets, documents, positions)
    assert parts.num_mtp_tokens == sum(n - 1 for n in LENGTHS)
    alone = [decoder.loss(a, b) for a, b in zip(tokens.split(LENGTHS, 1), targets.split(LENGTHS, 1), strict=True)]
    torch.testing.assert_close(parts.mtp_sum, sum(part.mtp_sum for part in alone), atol=1e-4, rtol=0)


def test_loss_equals_torch_cross_entropy_and_its_gradients(decoder):
    tokens, targets, documents, positions = packed_batch()
    mask = torch.arange(tokens.shape[1])[None] % 3 != 0
    parts = decoder.loss(tokens, targets, documents, positions, mask, mtp_weight=0.0, balance_weight=0.0)
    parts.total.backward()
    ours = {name: p.grad.clone() for name, p in decoder.named_parameters() if p.grad is not None}
    decoder.zero_grad()
    logits = decoder.logits(decoder(tokens, documents_BT=documents, positions_BT=positions))
    expected = F.cross_entropy(logits[mask], targets[mask], reduction="sum")
    expected.backward()
    assert parts.num_tokens == int(mask.sum())
    torch.testing.assert_close(parts.cross_entropy_sum, expected, atol=1e-4, rtol=1e-5)
    for name, parameter in decoder.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(ours[name], parameter.grad, atol=1e-4, rtol=1e-4, msg=name)


def test_no_loss_without_wanted_tokens_and_no_nan(decoder):
    tokens, targets, documents, positions = packed_batch()
    parts = decoder.loss(
        tokens, targets, documents, positions, torch.zeros_like(tokens, dtype=torch.bool), balance_weight=0.0
    )
    parts.total.backward()
    assert parts.num_tokens == 0
    assert parts.total.item() == 0
    assert all(torch.isfinite(p.grad).all() for p in decoder.parameters() if p.grad is not None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_padding_rows_and_single_tokens_stay_finite(decoder, dtype):
    decoder.compute_dtype = dtype
    tokens = torch.zeros(3, 9, dtype=torch.int64)
    documents = torch.tensor([[-1] * 9, [0] + [-1] * 8, list(range(9))])
    parts = decoder.loss(tokens, tokens, documents, None, documents >= 0)
    parts.total.backward()
    assert torch.isfinite(parts.total)
    assert all(torch.isfinite(p.grad).all() for p in decoder.parameters())


def padded_and_packed():
    tokens, targets, documents, positions = packed_batch()
    width = 4 * max(LENGTHS)
    padded = [torch.full((3, width), fill) for fill in (0, 0, -1)]
    for row, pieces in enumerate(zip(*(x.split(LENGTHS, 1) for x in (tokens, targets, documents)), strict=True)):
        for target, piece in zip(padded, pieces, strict=True):
            target[row, : piece.shape[1]] = piece[0]
    return (tokens, targets, documents, positions), (*padded, torch.arange(width).expand(3, -1))


def test_padding_moves_neither_load_nor_balance_nor_loss():
    results = []
    for tokens, targets, documents, positions in padded_and_packed():
        decoder = build(LATENT)
        parts = decoder.loss(tokens, targets, documents, positions, documents >= 0)
        results.append((parts, torch.stack(decoder.router_state())))
    (packed, packed_load), (padded, padded_load) = results
    assert torch.equal(packed_load, padded_load)
    assert packed_load[0].sum() == sum(LENGTHS) * LATENT.num_experts_per_token  # nothing dropped
    torch.testing.assert_close(packed.balance, padded.balance, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(packed.cross_entropy_sum, padded.cross_entropy_sum, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(packed.mtp_sum, padded.mtp_sum, atol=1e-3, rtol=1e-5)


def test_only_training_passes_are_counted():
    tokens, targets, documents, positions = packed_batch()
    decoder = build(LATENT)
    decoder.token_losses(tokens, targets)
    with torch.no_grad():
        decoder.loss(tokens, targets, documents, positions)
    decoder.eval()
    decoder.loss(tokens, targets, documents, positions)
    assert all(load.sum() == 0 for load in decoder.router_state())
    decoder.train()
    decoder.checkpoint_activations = True
    decoder.loss(tokens, targets, documents, positions).total.backward()
    assert [load.sum().item() for load in decoder.router_state()] == [sum(LENGTHS) * 2.0] * 3


def test_router_bias_moves_against_the_load_by_the_rate():
    decoder = build(LATENT)
    tokens, targets, documents, positions = packed_batch()
    decoder.loss(tokens, targets, documents, positions)
    loads = [load.clone() for load in decoder.router_state()]
    before = [router.bias.clone() for router in decoder.routers()]
    decoder.update_router_bias(0.01)
    for router, load, old in zip(decoder.routers(), loads, before, strict=True):
        expected = torch.where(load > load.mean(), -0.01, torch.where(load < load.mean(), 0.01, 0.0))
        torch.testing.assert_close(router.bias - old, expected)
        assert router.load.sum() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_checkpointing_changes_no_gradient(decoder, dtype):
    decoder.compute_dtype = dtype
    tokens, targets, documents, positions = packed_batch()
    gradients = []
    for again in (False, True):
        decoder.zero_grad()
        decoder.checkpoint_activations = again
        decoder.loss(tokens, targets, documents, positions).total.backward()
        gradients.append([p.grad.clone() for p in decoder.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_same_seed_same_bits(dtype):
    tokens, targets, documents, positions = packed_batch()
    results = []
    for _ in range(2):
        decoder = Decoder(LATENT)
        decoder.init_weights(7)
        decoder.compute_dtype = dtype
        decoder.loss(tokens, targets, documents, positions).total.backward()
        results.append([p.grad.clone() for p in decoder.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


class ListCache:
    """The plainest cache: concatenation. What `fathom.infer.cache` does faster, written independently of it."""

    def __init__(self):
        self.layers = {}
        self.length = 0

    def append(self, layer, first, second):
        if layer in self.layers:
            first, second = (
                torch.cat((old, new), 1) for old, new in zip(self.layers[layer], (first, second), strict=True)
            )
        self.layers[layer] = first, second
        self.length = first.shape[1]
        return first, second

    def mask(self, new):
        return torch.ones(new, self.length + new, dtype=torch.bool).tril(self.length)[None, None]

    def positions(self, new):
        return torch.arange(self.length, self.length + new)[None]


@pytest.mark.parametrize("split", [(12,), (1,) * 12, (5, 1, 6), (4, 4, 4)], ids=str)
def test_cached_decoding_equals_the_full_pass(decoder, split):
    tokens = torch.randint(0, 61, (2, 12), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        full = decoder(tokens)
        cache = ListCache()
        pieces = torch.cat([decoder(piece, cache=cache) for piece in tokens.split(split, 1)], 1)
    torch.testing.assert_close(pieces, full, atol=1e-5, rtol=1e-4)
    width = sum(part.shape[2:].numel() for part in cache.layers[0])
    config = decoder.config
    latent = config.kv_lora_rank + config.qk_rope_head_dim
    assert width == (latent if config.attention == "latent" else 2 * config.num_kv_heads * config.head_dim)


class BlindCache(ListCache):
    def mask(self, new):
        mask = super().mask(new).clone()
        mask[..., 0, :] = False
        return mask


def test_a_query_that_may_see_nothing_gives_finite_numbers(decoder):
    with torch.no_grad():
        cache = BlindCache()
        decoder(torch.zeros(1, 3, dtype=torch.int64), cache=cache)
        hidden = decoder(torch.zeros(1, 3, dtype=torch.int64), cache=cache)
    assert torch.isfinite(hidden).all()


@pytest.mark.parametrize("config", [LATENT, GROUPED])
def test_builds_without_memory_on_the_meta_device(config):
    with torch.device("meta"):
        decoder = Decoder(config)
    assert sum(p.numel() for p in decoder.parameters()) == sum(p.numel() for p in Decoder(config).parameters())


def test_a_shape_that_does_not_divide_is_refused_with_what_would_be_right():
    with pytest.raises(FathomError, match="a multiple of num_heads = 5"):
        ModelConfig(vocab_size=8, hidden_size=64, num_layers=1, num_heads=5, intermediate_size=8)
