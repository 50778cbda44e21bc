"""Bits per byte on held-out documents, by domain: comparable between models whatever their tokenizers.

The sum of -log2 p over the tokens that spell a domain's documents, divided by the documents' UTF-8 bytes. Control
tokens (document borders, turns) are read but not scored: they spell no bytes.

B rows, T positions.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch

from fathom.data.shards import Batch, Batches, HeldOut
from fathom.model.decoder import Decoder

ROWS = 8


def held_out_bits_per_byte(
    decoder: Decoder, prepared: Path | str, sequence_length: int, *, max_tokens: int | None = None
) -> dict[str, Any]:
    """Bits per byte of every domain with held-out documents and of all together, with the nats, bytes and tokens.

    `prepared` holds shards written with the model's own tokenizer. Documents come in order, up to `max_tokens` a domain
    (all without it); longer ones than `sequence_length` are scored in pieces that do not see each other. The decoder
    computes in its `compute_dtype`; losses are fp32, their sum float64.
    """
    batches = Batches(prepared, sequence_length=sequence_length, rows=ROWS, seed=0)
    started = time.monotonic()
    domains = {
        domain: _scored(decoder, batches.held_out(domain, max_tokens=max_tokens))
        for domain in batches.manifest.held_out_domains
    }
    whole = {key: sum(part[key] for part in domains.values()) for key in ("nats", "bytes", "tokens")}
    return {**_with_bits(whole), "domains": domains, "seconds": time.monotonic() - started}


def _scored(decoder: Decoder, held_out: HeldOut) -> dict[str, Any]:
    nats = math.fsum(nats_of(decoder, batch) for batch in held_out)
    counts = {"bytes": held_out.num_bytes, "tokens": held_out.num_tokens, "documents": held_out.num_documents}
    return _with_bits({"nats": nats, **counts})


def _with_bits(part: dict[str, Any]) -> dict[str, Any]:
    bits = part["nats"] / math.log(2) / part["bytes"] if part["bytes"] else None
    return {"bits_per_byte": bits, **part}


def nats_of(decoder: Decoder, batch: Batch) -> float:
    """Sum of -ln p(target) over the batch's scored tokens."""
    device = decoder.embedding.weight.device
    tokens_BT, targets_BT, documents_BT, positions_BT = (
        torch.from_numpy(array).to(device) for array in (batch.tokens, batch.targets, batch.documents, batch.positions)
    )
    losses_BT = decoder.token_losses(tokens_BT, targets_BT, documents_BT=documents_BT, positions_BT=positions_BT)
    return float((losses_BT.cpu().double() * torch.from_numpy(batch.loss_mask)).sum())
