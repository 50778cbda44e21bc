"""Muon's update: momentum made orthogonal, many matrices at a time.

Shapes: S matrices of one shape stacked, M rows, N columns (M <= N after transposing where needed).

Sources: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024,
kellerjordan.github.io/posts/muon); Liu et al., arXiv:2502.16982, for the scale of the update.
"""

from __future__ import annotations

import torch
from torch import Tensor

# The quintic of the post above: a x + b x^3 + c x^5 pushes singular values in (0, 1] towards 1 fastest at 0.
_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalize(update_SMN: Tensor, steps: int) -> Tensor:
    """The nearest semi-orthogonal matrices to `update_SMN`, roughly: singular values end between 0.7 and 1.2.

    Newton-Schulz in bfloat16, where a processor multiplies fastest; batched, so a stack of experts is one product.
    A matrix of zeros stays zero: an expert that got no token does not move. Returns bfloat16 of the same shape.
    """
    tall = update_SMN.size(-2) > update_SMN.size(-1)
    x_SMN = update_SMN.mT if tall else update_SMN
    norm_S11 = torch.linalg.matrix_norm(x_SMN.float(), keepdim=True)
    x_SMN = (x_SMN / (norm_S11 * 1.02 + 1e-12)).bfloat16()
    a, b, c = _QUINTIC
    for _ in range(steps):
        gram_SMM = torch.bmm(x_SMN, x_SMN.mT)
        poly_SMM = torch.baddbmm(gram_SMM, gram_SMM, gram_SMM, beta=b, alpha=c)
        x_SMN = torch.baddbmm(x_SMN, poly_SMM, x_SMN, beta=a)
    return x_SMN.mT if tall else x_SMN


def rms_matched_scale(rows: int, columns: int) -> float:
    """Brings the root mean square of an orthogonal update to 0.2, about that of AdamW (arXiv:2502.16982, eq. 4)."""
    return 0.2 * max(rows, columns) ** 0.5
