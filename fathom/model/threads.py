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
from torch import Tensor, nn
from torch.func import functional_call

from fathom.model.experts import Experts
from fathom.model.kernels import available
from fathom.model.kernels.functions import call
from fathom.model.losses import LossParts
from fathom.model.ops import Linear

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

    Matrices are cast to bf16 once for all threads, and their gradients stay bf16, as products give them, until they are
    added up in fp32. The gradients are added in the order of the rows, so the same threads give the same bits. `total`
    may be sent backward once; the other parts carry no gradient.
    """
    threads = torch.get_num_threads()
    workers = min(threads, len(batch[0]), MAX_WORKERS)
    shares: list[Batch] = list(zip(*(_divide(tensor, workers) for tensor in batch), strict=True))
    parameters = {name: p for name, p in decoder.named_parameters() if p.requires_grad}
    cast = _cast_by_products(decoder)
    leaves = {name: p.detach().bfloat16().requires_grad_() if name in cast else p for name, p in parameters.items()}
    by_threads = _InThreads(decoder, workers, threads // workers, mtp_weight, balance_weight)
    renamed = {f"decoder.{name}": leaf for name, leaf in leaves.items()}
    results = functional_call(by_threads, renamed, (shares, list(leaves.values())))
    gradients = [list(of_one) for of_one in zip(*(found for _, found in results), strict=True)]
    return _sum([parts for parts, _ in results], _GradientsAtHand.apply, gradients, list(parameters.values()))


def _cast_by_products(decoder: Decoder) -> set[str]:
    """Names of the matrices that products cast to their rows' dtype: not the router's, the embedding's, the head's."""
    modules = (item for item in decoder.named_modules() if isinstance(item[1], Linear | Experts))
    inside = ((name, module) for name, module in modules if module is not decoder.head)
    return {
        f"{name}.{own}" for name, module in inside for own, p in module.named_parameters(recurse=False) if p.ndim > 1
    }


class _InThreads(nn.Module):
    """The decoder as something to call with other parameters in its place; each thread takes its share of rows."""

    def __init__(self, decoder: Decoder, workers: int, threads_each: int, mtp_weight: float, balance_weight: float):
        super().__init__()
        self.decoder, self.pool, self.weights = decoder, _pool(workers, threads_each), (mtp_weight, balance_weight)

    def forward(self, shares: list[Batch], leaves: list[Tensor]) -> list[Any]:
        def run(share: Batch) -> tuple[LossParts, tuple[Tensor | None, ...]]:
            with torch.enable_grad():
                parts = self.decoder.loss_of_rows(*share, *self.weights)
            return parts, torch.autograd.grad(parts.total, leaves, allow_unused=True)

        return list(self.pool.map(run, shares))


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


def _added(parts: list[Tensor | None], slope: float, like: Tensor) -> Tensor | None:
    """slope * the sum of one parameter's gradients, in fp32, added in their order; None without any."""
    found = [part for part in parts if part is not None]
    if not found:
        return None
    if found[0].dtype != torch.bfloat16:
        return functools.reduce(Tensor.add_, found).mul_(slope)
    total = torch.empty_like(like)
    for index, part in enumerate(found):
        regular = part if part[0].is_contiguous() else part.contiguous()  # a stack's halves lie side by side
        call("add_gradient", regular, regular.stride(0), slope, total, len(total), total[0].numel(), index)
    return total


class _GradientsAtHand(torch.autograd.Function):
    """A value whose gradients by the parameters are known already, one for each thread."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, gradients: list[list[Tensor | None]], *parameters: Tensor) -> Tensor:
        ctx.gradients, ctx.parameters = gradients, parameters
        return total.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        pairs, factor = zip(gradients, ctx.parameters, strict=True), float(slope)
        return (None, None, *(_added(parts, factor, parameter) for parts, parameter in pairs))


def _sum(parts: list[LossParts], attach: Any, gradients: list[list[Tensor | None]], parameters: list[Any]) -> LossParts:
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
