"""The decoder: one stack of blocks for both families, its losses and its multi-token prediction heads.

B batch rows, T positions, D hidden_size, V vocabulary, M tokens of a batch in a row, E experts, L layers.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fathom.model.attention import (
    Context,
    GroupedAttention,
    KeyValueCache,
    LatentAttention,
    document_mask,
    first_positions,
)
from fathom.model.config import ModelConfig
from fathom.model.experts import FeedForward, MixtureOfExperts, Router
from fathom.model.kernels import available
from fathom.model.losses import Counted, LossParts, ahead_targets, count, routing_statistics, shift
from fathom.model.ops import Linear, RMSNorm, cross_entropy_sum, token_losses
from fathom.model.rotary import Rotary
from fathom.model.threads import loss_in_threads, threads_pay


class Block(nn.Module):
    """x + attention(norm x), then x + feed-forward(norm x)."""

    def __init__(self, config: ModelConfig, *, mixture: bool) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attention = LatentAttention(config) if config.attention == "latent" else GroupedAttention(config)
        self.feed_forward_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.feed_forward = (
            MixtureOfExperts(config) if mixture else FeedForward(config.hidden_size, config.intermediate_size)
        )

    def forward(
        self, x_BTD: Tensor, context: Context, layer: int, counted: Counted | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The new x, and where routing is counted the balance loss (summed over tokens) and the load [E]."""
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), context, layer)
        normed_MD = self.feed_forward_norm(x_BTD).flatten(0, 1)
        if not isinstance(self.feed_forward, MixtureOfExperts):
            return x_BTD + self.feed_forward(normed_MD).view_as(x_BTD), None, None
        y_MD, routing = self.feed_forward(normed_MD)
        balance, load = routing_statistics(routing, counted) if counted is not None else (None, None)
        return x_BTD + y_MD.view_as(x_BTD), balance, load


class MultiTokenHead(nn.Module):
    """One further token ahead: a block over the last hidden state and the next token's embedding.

    arXiv:2412.19437, section 2.2; the parts and their order are those of DeepSeek's checkpoint. Embedding and output
    projection are the main model's.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embedding_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.hidden_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.projection = Linear(2 * config.hidden_size, config.hidden_size)
        self.block = Block(config, mixture=config.num_experts > 0)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, hidden_BTD: Tensor, embedding_BTD: Tensor, context: Context, counted: Counted | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        joined = torch.cat((self.embedding_norm(embedding_BTD), self.hidden_norm(hidden_BTD)), dim=-1)
        x_BTD, balance, load = self.block(self.projection(joined), context, 0, counted)
        return self.norm(x_BTD), balance, load


class Decoder(nn.Module):
    """A decoder of either family. Parameters are fp32; `compute_dtype` is what products and activations are in."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = torch.float32
        self.checkpoint_activations = False  # recompute each block in the backward pass instead of keeping it
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Block(config, mixture=layer >= config.num_dense_layers) for layer in range(config.num_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.head = None if config.tie_word_embeddings else Linear(config.hidden_size, config.vocab_size)
        self.mtp = nn.ModuleList(MultiTokenHead(config) for _ in range(config.num_mtp_layers))
        self.rotary = Rotary(config)

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Draw every parameter from one seed, in the order of `named_parameters`, on the CPU whatever the device.

        Matrices have variance 1/width_in; those that write into the residual stream start at zero, so that the first
        step trains a plain embedding model and depth comes in by itself.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
            elif name.endswith(("o_proj.weight", "down_proj.weight", "down_EDF")):
                parameter.zero_()
            else:
                std = 0.02 if name in ("embedding.weight", "head.weight") else parameter.shape[-1] ** -0.5
                parameter.copy_(torch.empty(parameter.shape).normal_(0.0, std, generator=generator))
        for router in self.routers():
            router.load.zero_()
            if router.bias is not None:
                router.bias.zero_()

    # ---- forward -------------------------------------------------------------------------------------------------

    def forward(
        self,
        tokens_BT: Tensor,
        *,
        documents_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Hidden states after the final norm, [B, T, D] in the compute dtype.

        `documents_BT`: attention stays within runs of equal numbers. `positions_BT`: 0, 1, 2... unless given (packed
        documents start at 0 each). `cache`: keys and values of earlier tokens are taken from it and those of these
        added.
        """
        context = self._context(tokens_BT, documents_BT, positions_BT, cache)
        return self._hidden(tokens_BT, context, None)[0]

    def _context(
        self, tokens_BT: Tensor, documents_BT: Tensor | None, positions_BT: Tensor | None, cache: KeyValueCache | None
    ) -> Context:
        num_positions = tokens_BT.shape[1]
        mask = starts = None
        if cache is not None:
            mask = cache.mask(num_positions)
            positions_BT = cache.positions(num_positions) if positions_BT is None else positions_BT
        elif self.compute_dtype == torch.bfloat16 and tokens_BT.device.type == "cpu" and available():
            starts = first_positions(tokens_BT, documents_BT)
        elif documents_BT is not None:
            mask = document_mask(documents_BT)
        if positions_BT is None:
            positions_BT = torch.arange(num_positions, device=tokens_BT.device).unsqueeze(0)
        cos, sin = self.rotary(positions_BT)
        return Context(cos, sin, mask, cache, starts)

    def _embed(self, tokens_BT: Tensor) -> Tensor:
        return self.embedding(tokens_BT).to(self.compute_dtype)

    def _hidden(
        self, tokens_BT: Tensor, context: Context, counted: Counted | None
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        x_BTD = self._embed(tokens_BT)
        balances: list[Tensor] = []
        loads: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            x_BTD, balance, load = self._run(layer, x_BTD, context, index, counted)
            if balance is not None and load is not None:
                balances.append(balance)
                loads.append(load)
        return self.norm(x_BTD), balances, loads

    def _run(self, module: nn.Module, *arguments: object) -> tuple[Tensor, Tensor | None, Tensor | None]:
        if self.checkpoint_activations and torch.is_grad_enabled():
            return checkpoint(module, *arguments, use_reentrant=False)
        return module(*arguments)

    def output_weight(self) -> Tensor:
        """The output projection [V, D]: the head's, or the embedding's where they are tied."""
        return self.embedding.weight if self.head is None else self.head.weight

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., D], in their dtype."""
        return torch.nn.functional.linear(hidden, self.output_weight().to(hidden.dtype))

    def token_losses(
        self,
        tokens_BT: Tensor,
        targets_BT: Tensor,
        *,
        documents_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
    ) -> Tensor:
        """-log p(target) of every position, fp32 [B, T], in nats, for evaluation: no gradients, nothing counted."""
        with torch.no_grad():
            hidden = self(tokens_BT, documents_BT=documents_BT, positions_BT=positions_BT)
            return token_losses(hidden.flatten(0, 1), self.output_weight(), targets_BT.flatten().long()).view_as(
                targets_BT
            )

    # ---- training ------------------------------------------------------------------------------------------------

    def loss(
        self,
        tokens_BT: Tensor,
        targets_BT: Tensor,
        documents_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
        loss_mask_BT: Tensor | None = None,
        *,
        mtp_weight: float = 0.3,
        balance_weight: float = 1e-4,
    ) -> LossParts:
        """Losses of a batch, summed over the tokens whose `loss_mask_BT` is true (all, without one).

        Tokens with a negative document number are padding: seen by no other token, counted in no load and no balance.
        A document is a sequence of the balance loss. The router's load is added to only here, and only while training.
        """
        batch = (tokens_BT, targets_BT, documents_BT, positions_BT, loss_mask_BT)
        if threads_pay(self, tokens_BT):
            parts = loss_in_threads(self, batch, mtp_weight, balance_weight)
        else:
            parts = self.loss_of_rows(*batch, mtp_weight, balance_weight)
        if self.training and torch.is_grad_enabled():
            for router, load in zip(self.routers(), parts.router_load, strict=True):
                router.load += load
        return parts

    def loss_of_rows(
        self,
        tokens_BT: Tensor,
        targets_BT: Tensor,
        documents_BT: Tensor | None,
        positions_BT: Tensor | None,
        loss_mask_BT: Tensor | None,
        mtp_weight: float,
        balance_weight: float,
    ) -> LossParts:
        """`loss` of these rows by the calling thread; counts nothing."""
        tokens_BT, targets_BT = tokens_BT.long(), targets_BT.long()
        kept_BT = torch.ones_like(targets_BT, dtype=torch.bool) if loss_mask_BT is None else loss_mask_BT.bool()
        context = self._context(tokens_BT, documents_BT, positions_BT, None)
        counted = count(documents_BT, targets_BT) if self.config.num_experts else None
        hidden_BTD, balances, loads = self._hidden(tokens_BT, context, counted)
        cross_entropy = self._cross_entropy(hidden_BTD, targets_BT, kept_BT)
        mtp_sum, num_mtp = cross_entropy.new_zeros(()), 0
        for depth, head in enumerate(self.mtp, start=1):
            ahead = ahead_targets(targets_BT, kept_BT, documents_BT, depth)
            embedding_BTD = self._embed(shift(targets_BT, depth - 1))
            hidden_BTD, balance, load = self._run(head, hidden_BTD, embedding_BTD, context, counted)
            if balance is not None and load is not None:
                balances.append(balance)
                loads.append(load)
            mtp_sum = mtp_sum + self._cross_entropy(hidden_BTD, *ahead)
            num_mtp += int(ahead[1].sum())
        balance = torch.stack(balances).sum() if balances else cross_entropy.new_zeros(())
        total = cross_entropy + balance_weight * balance
        if self.mtp:
            total = total + mtp_weight / len(self.mtp) * mtp_sum
        return LossParts(total, cross_entropy, int(kept_BT.sum()), mtp_sum, num_mtp, balance, loads)

    def _cross_entropy(self, hidden_BTD: Tensor, targets_BT: Tensor, kept_BT: Tensor) -> Tensor:
        hidden_MD, targets_M = hidden_BTD.flatten(0, 1), targets_BT.flatten()
        if not bool(kept_BT.all()):
            kept_M = kept_BT.flatten()
            hidden_MD, targets_M = hidden_MD[kept_M], targets_M[kept_M]
        return cross_entropy_sum(hidden_MD, self.output_weight(), targets_M)

    def routers(self) -> Iterator[Router]:
        """The routers in the order of the layers, multi-token heads last."""
        return (module for module in self.modules() if isinstance(module, Router))

    def router_state(self) -> list[Tensor]:
        """Loads counted since the last bias update, one [E] per router; several processes add theirs up in place."""
        return [router.load for router in self.routers()]

    def update_router_bias(self, rate: float) -> None:
        """One step of the auxiliary-loss-free balancing (arXiv:2412.19437, section 2.1.2), once per optimizer step."""
        for router in self.routers():
            router.update_bias(rate)
