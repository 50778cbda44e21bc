"""Muon's update: momentum made orthogonal, many matrices at a time.

Shapes: S matrices of one shape stacked, M rows, N columns (M <= N after transposing where needed).

Sources: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024,
kellerjordan.github.io/posts/muon); Liu et al., arXiv:2502.16982, for the scale of the update; Amsel et al.,
arXiv:2505.16932, for coefficients that change from step to step.
"""

from __future__ import annotations

import torch
from torch import Tensor

# a x + b x^3 + c x^5, three times: found numerically so that the composition is nearest to 1, in least squares over
# singular values from 0.008 to 0.99 evenly in the logarithm; there it lies between 0.58 and 1.29. Small matrices
# have few singular values below. The usual five steps of one quintic reach no nearer (0.67 to 1.2) at five thirds of
# the cost, which in small batches is a third of the whole step (docs/log.md).
_QUINTICS = ((7.8869, -23.4015, 17.6139), (3.2976, -2.5983, 0.5446), (2.9485, -2.6398, 0.7435))


def orthogonalize(update_SMN: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrices to `update_SMN`, roughly: most singular values end between 0.6 and 1.3.

    Newton-Schulz in bfloat16, where a processor multiplies fastest; batched, so a stack of experts is one product.
    A matrix of zeros stays zero: an expert that got no token does not move. Returns bfloat16 of the same shape.
    """
    tall = update_SMN.size(-2) > update_SMN.size(-1)
    x_SMN = update_SMN.mT if tall else update_SMN
    norm_S11 = torch.linalg.matrix_norm(x_SMN.float(), keepdim=True)
    x_SMN = (x_SMN / (norm_S11 * 1.02 + 1e-12)).bfloat16()
    for a, b, c in _QUINTICS:
        gram_SMM = torch.bmm(x_SMN, x_SMN.mT)
        poly_SMM = torch.baddbmm(gram_SMM, gram_SMM, gram_SMM, beta=b, alpha=c)
        x_SMN = torch.baddbmm(x_SMN, poly_SMM, x_SMN, beta=a)
    return x_SMN.mT if tall else x_SMN


def orthogonalize_flops(rows: int, columns: int) -> float:
    """Operations for one matrix: two products with the long side and one of the short side, each step."""
    short, long = sorted((rows, columns))
    return len(_QUINTICS) * (4.0 * short * short * long + 2.0 * short**3)


def rms_matched_scale(rows: int, columns: int) -> float:
    """Brings the root mean square of an orthogonal update to 0.2, about that of AdamW (arXiv:2502.16982, eq. 4)."""
    return 0.2 * max(rows, columns) ** 0.5
