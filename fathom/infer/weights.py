"""Weights as inference wants them: matrices once in the compute dtype, not cast anew for every token."""

from __future__ import annotations

from dataclasses import replace

import torch

from fathom.model.decoder import Decoder
from fathom.model.experts import Router


def for_inference(decoder: Decoder, dtype: torch.dtype) -> Decoder:
    """A decoder that computes in `dtype` with its matrices held in it; `decoder` itself where it already does.

    Norms and routers stay in fp32, in which they compute. Multi-token heads, which generation does not use, are left out
    of a copy.
    """
    if decoder.compute_dtype == dtype and decoder.embedding.weight.dtype == dtype:
        return decoder
    config = replace(decoder.config, num_mtp_layers=0)
    with torch.device("meta"):
        copy = Decoder(config)
    kept_fp32 = {name for name, module in decoder.named_modules() if isinstance(module, Router)}
    weights = {}
    for name, tensor in decoder.state_dict().items():
        if not name.startswith("mtp."):
            cast = tensor.ndim > 1 and name.rpartition(".")[0] not in kept_fp32
            weights[name] = tensor.to(dtype) if cast else tensor
    copy.load_state_dict(weights, strict=True, assign=True)
    copy.to(next(iter(weights.values())).device)
    copy.compute_dtype = dtype
    return copy.eval()


def choose_dtype(name: str) -> torch.dtype:
    """'fp32', 'bf16', or 'auto': bf16 where the device multiplies it natively, else fp32."""
    if name == "auto":
        native = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported()
        return torch.bfloat16 if native else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]
