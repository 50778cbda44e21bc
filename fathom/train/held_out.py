"""Bits per byte on held-out documents, by domain, within a share of time: what a run says of itself before and after."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch

from fathom.data.shards import Batches
from fathom.model.decoder import Decoder

ROWS = 8


def held_out_bits_per_byte(
    decoder: Decoder, prepared: Path, sequence_length: int, *, seed: int = 0, max_tokens: int | None = None
) -> dict[str, Any]:
    """Bits per byte of each domain and of all, with bytes and tokens scored; documents in order, up to `max_tokens` a domain."""
    batches = Batches(prepared, sequence_length=sequence_length, rows=ROWS, seed=seed)
    started, domains = time.monotonic(), {}
    for domain in batches.manifest.held_out_domains:
        held_out = batches.held_out(domain, max_tokens=max_tokens)
        nats = sum(_nats(decoder, batch) for batch in held_out)
        domains[domain] = {"nats": nats, "bytes": held_out.num_bytes, "tokens": held_out.num_tokens}
    for part in domains.values():
        part["bits_per_byte"] = part["nats"] / math.log(2) / max(part["bytes"], 1)
    nats, num_bytes = (sum(part[key] for part in domains.values()) for key in ("nats", "bytes"))
    whole = nats / math.log(2) / num_bytes if num_bytes else None
    tokens = sum(part["tokens"] for part in domains.values())
    return {
        "bits_per_byte": whole,
        "bytes": num_bytes,
        "tokens": tokens,
        "domains": domains,
        "seconds": time.monotonic() - started,
    }


def _nats(decoder: Decoder, batch: Any) -> float:
    def tensor(array: Any) -> torch.Tensor:
        return torch.from_numpy(array)

    losses = decoder.token_losses(
        tensor(batch.tokens),
        tensor(batch.targets),
        documents_BT=tensor(batch.documents),
        positions_BT=tensor(batch.positions),
    )
    return float((losses * tensor(batch.loss_mask)).double().sum())
