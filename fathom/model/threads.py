"""Training passes on a processor with several cores: each thread takes some rows of the batch through all layers.

One thread in one product runs at the core's full rate; two threads in one small product wait for each other, and what
is too small to be divided runs on one core while the others idle. Dividing rows rather than products gave 8 to 10% more
tokens a second on two cores, in the shapes of `benchmarks/training_speed`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fathom.model.kernels import available
from fathom.model.losses import LossParts

if TYPE_CHECKING:
    from fathom.model.decoder import Decoder

# Each thread holds a gradient of its own until they are added up: more of them would cost memory for little.
MAX_WORKERS = 4

Batch = tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]


def threads_pay(decoder: Decoder, tokens_BT: Tensor) -> bool:
    """Whether to divide a loss: a training pass in bf16 on several cores, several rows, parameters not sharded."""
    return (
        decoder.compute_dtype == torch.bfloat16
        and tokens_BT.device.type == "cpu"
        and len(tokens_BT) > 1
        and torch.get_num_threads() > 1
        and torch.is_grad_enabled()
        and available()
        and all(type(parameter.data) is Tensor for parameter in decoder.parameters())
    )


def loss_in_threads(decoder: Decoder, batch: Batch, mtp_weight: float, balance_weight: float) -> LossParts:
    """`Decoder.loss` with the rows divided among threads, each of which goes forward and backward at once.

    The gradients are added in the order of the rows, so the same threads give the same bits. `total` may be sent
    backward once; the other parts carry no gradient.
    """
    threads = torch.get_num_threads()
    workers = min(threads, len(batch[0]), MAX_WORKERS)
    parameters = [parameter for parameter in decoder.parameters() if parameter.requires_grad]
    shares = zip(*(_divide(tensor, workers) for tensor in batch), strict=True)

    def run(share: Sequence[Tensor | None]) -> tuple[LossParts, list[Tensor | None]]:
        with torch.enable_grad():
            parts = decoder.loss_of_rows(*share, mtp_weight, balance_weight)  # type: ignore[arg-type, call-arg]
        gradients = torch.autograd.grad(parts.total, parameters, allow_unused=True)
        return parts, list(gradients)

    results = list(_pool(workers, threads // workers).map(run, shares))
    gradients = results[0][1]
    for _, more in results[1:]:
        gradients = [_add(total, part) for total, part in zip(gradients, more, strict=True)]
    return _sum([parts for parts, _ in results], _GradientsAtHand.apply, gradients, parameters)


@functools.cache
def _pool(workers: int, threads_each: int) -> ThreadPoolExecutor:
    """Threads that stay: how many threads a product may use is a setting of the thread that calls it.

    All of them start here, at a barrier: a pool starts a thread only when none is idle, and one that starts later, in
    the middle of a pass, sets the number of threads again, part of which is the whole process's.
    """
    mine = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, "rows", initializer=torch.set_num_threads, initargs=(threads_each,))
    everyone = Barrier(workers)
    list(pool.map(lambda _: everyone.wait(), range(workers)))
    torch.set_num_threads(mine)
    return pool


def _divide(tensor: Tensor | None, workers: int) -> Sequence[Tensor | None]:
    if tensor is None:
        return [None] * workers
    return tensor.tensor_split(workers)


def _add(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    if total is None or part is None:
        return part if total is None else total
    return total.add_(part)


class _GradientsAtHand(torch.autograd.Function):
    """A value whose gradients by the parameters are known already."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, gradients: list[Tensor | None], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return total.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None  # handed over, so that they are not copied
        return (None, None, *(gradient if gradient is None else gradient.mul_(slope) for gradient in gradients))


def _sum(parts: list[LossParts], attach: Any, gradients: list[Tensor | None], parameters: list[Any]) -> LossParts:
    def added(name: str) -> Tensor:
        return torch.stack([getattr(part, name).detach() for part in parts]).sum()

    return LossParts(
        total=attach(added("total"), gradients, *parameters),
        cross_entropy_sum=added("cross_entropy_sum"),
        num_tokens=sum(part.num_tokens for part in parts),
        mtp_sum=added("mtp_sum"),
        num_mtp_tokens=sum(part.num_mtp_tokens for part in parts),
        balance=added("balance"),
        router_load=[torch.stack(loads).sum(0) for loads in zip(*(part.router_load for part in parts), strict=True)],
    )
