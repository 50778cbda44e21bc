"""Weights as inference wants them: matrices held once in the compute dtype, activations between them in fp32.

On a CPU one token's step is bound by reading the weights, so they are kept as small as they are exact: in 4 or 8 bits
where the model's values came from such a format (`fathom.infer.packed`), else in bf16. Keeping the residual stream in
fp32 costs nothing beside that and loses less than bf16 throughout.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fathom.infer.packed import Packed, pack
from fathom.model.decoder import Decoder
from fathom.model.experts import Experts
from fathom.model.kernels.build import available
from fathom.model.kernels.functions import call
from fathom.model.ops import Linear, swiglu

# Above this many tokens at once a product is bound by arithmetic, and the plain matrix is faster (2 cores, AVX-512).
MOST_PACKED_ROWS = 8
# For so few the pass that reads the weights once is faster than the library's (31 against 126 microseconds for one row
# of 576 x 576, 208 against 140 for four of 576 x 1536).
MOST_SINGLE_ROWS = 3


def for_inference(decoder: Decoder, dtype: torch.dtype) -> Decoder:
    """A decoder whose matrices are held in `dtype`; `decoder` itself where that is the dtype it computes in.

    Otherwise `decoder` stays as it is and a copy is made. Norms, routers and the projection that latent attention
    absorbs stay in fp32, in which they compute. Multi-token heads, which generation does not use, are left out of a
    copy.
    """
    if decoder.compute_dtype == dtype and decoder.embedding.weight.dtype == dtype:
        return decoder
    with torch.device("meta"):
        copy = InferenceDecoder(replace(decoder.config, num_mtp_layers=0))
    weights = {name: tensor.detach() for name, tensor in decoder.state_dict().items() if not name.startswith("mtp.")}
    copy.load_state_dict(weights, strict=True, assign=True)
    copy.hold(dtype)
    return copy.eval()


def choose_dtype(name: str) -> torch.dtype:
    """'fp32', 'bf16', or 'auto': bf16 where the device multiplies it natively, else fp32."""
    if name == "auto":
        native = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported()
        return torch.bfloat16 if native else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]


class InferenceDecoder(Decoder):
    """The same decoder with other leaves: held projections and experts."""

    def hold(self, dtype: torch.dtype) -> None:
        """Replace the projections and experts by ones that hold their weights in `dtype`."""
        self.held_head = Held(super().output_weight(), None, dtype)
        self.head = None
        if self.held_head.packed is None:
            self.embedding.weight = _frozen(self.embedding.weight.to(dtype))
        for parent in list(self.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, Linear) and name != "kv_b_proj":
                    setattr(parent, name, Held(child.weight, child.bias, dtype))
                elif isinstance(child, Experts):
                    setattr(parent, name, HeldExperts(child, dtype))

    def output_weight(self) -> Tensor:
        return self.held_head.weight

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., D], in their dtype."""
        return self.held_head(hidden)


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)


def product(x: Tensor, weight_OI: Tensor) -> Tensor:
    """x @ weight.T in x's dtype, with x cast to the weight's, or for a few rows on a CPU with nothing of x cast."""
    rows = x.numel() // x.shape[-1]
    plain = weight_OI.dtype != torch.bfloat16 or x.dtype != torch.float32 or x.device.type != "cpu"
    if plain or rows > MOST_SINGLE_ROWS or not available():
        return F.linear(x.to(weight_OI.dtype), weight_OI).to(x.dtype)
    out = x.new_empty(*x.shape[:-1], len(weight_OI))
    call("few_rows", x.contiguous(), weight_OI, out, rows, len(weight_OI), x.shape[-1])
    return out


class Held(nn.Module):
    """A projection with its weight in `dtype`, or in its exact few bits for single tokens where it has them."""

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.packed: Packed | None = pack(weight_OI.detach()) if dtype == torch.bfloat16 else None
        # beside its few bits a packed matrix keeps the values it came with, which cost no memory and lose nothing
        self.weight = _frozen(weight_OI.detach() if self.packed is not None else weight_OI.detach().to(dtype))
        self.bias = None if bias_O is None else _frozen(bias_O.detach().float())

    def forward(self, x: Tensor) -> Tensor:
        """Product in the weight's dtype, returned in x's."""
        if self.packed is not None and x.numel() <= MOST_PACKED_ROWS * x.shape[-1]:
            out = self.packed(x.bfloat16().flatten(0, -2)).view(*x.shape[:-1], -1).to(x.dtype)
        else:
            out = product(x, self.weight)
        return out if self.bias is None else out + self.bias.to(x.dtype)


class HeldExperts(nn.Module):
    """Routed experts with their weights in `dtype`; only experts that some token chose are read."""

    def __init__(self, experts: Experts, dtype: torch.dtype) -> None:
        super().__init__()
        self.gate_up_EGD = _frozen(
            torch.cat((experts.gate_EFD.detach().to(dtype), experts.up_EFD.detach().to(dtype)), dim=1)
        )
        self.down_EDF = _frozen(experts.down_EDF.detach().to(dtype))

    def forward(self, x_MD: Tensor, experts_MA: Tensor, weights_MA: Tensor) -> Tensor:
        per_token = experts_MA.shape[1]
        chosen, order = experts_MA.flatten().sort(stable=True)
        experts, counts = chosen.unique_consecutive(return_counts=True)
        rows = x_MD[order // per_token].split(counts.tolist())
        out = []
        for expert, rows_RD in zip(experts.tolist(), rows, strict=True):
            gate, up = product(rows_RD, self.gate_up_EGD[expert]).chunk(2, dim=-1)
            out.append(product(swiglu(gate, up), self.down_EDF[expert]))
        y = torch.cat(out) * weights_MA.flatten()[order].unsqueeze(-1).to(x_MD.dtype)
        return torch.empty_like(y).index_copy(0, order, y).unflatten(0, (-1, per_token)).sum(1)
