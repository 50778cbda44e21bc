"""Several processes, applied to a plain model from outside: FSDP2 over all ranks of a `torchrun`.

Each rank sees its own rows of the same pure batch(step), gradients are summed (never averaged: the loss is already
divided by the whole step's tokens), and parameters, gradients and optimizer state are sharded. The mesh has one
dimension, `data`; expert parallelism would add a second one, `expert`, over which `shard` distributes the stacks of
experts instead of sharding them, and nothing outside this file would change.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn

from fathom.errors import FathomError


@dataclass
class Parallel:
    """One process among `world`; the default is alone."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    mesh: Any = None

    @classmethod
    def from_environment(cls) -> Parallel:
        """Join the process group that `torchrun` describes; alone where there is none."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls()
        alone = cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if alone.device.type == "cuda" else "gloo")
        if alone.device.type == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        mesh = dist.init_device_mesh(alone.device.type, (world,), mesh_dim_names=("data",))
        return cls(dist.get_rank(), world, alone.device, mesh)

    @property
    def writes(self) -> bool:
        """Whether this process keeps the ledger and prints."""
        return self.rank == 0

    def rows(self, rows_per_step: int) -> list[int]:
        """The rows of a step's batch that this process computes. Raises FathomError if they do not divide."""
        if rows_per_step % self.world:
            raise FathomError(
                f"train.rows_per_step = {rows_per_step} does not divide among {self.world} processes; use a "
                f"multiple of {self.world}"
            )
        share = rows_per_step // self.world
        return list(range(self.rank * share, (self.rank + 1) * share))

    def shard(self, model: nn.Module) -> nn.Module:
        """Shard every block, then what is left, over the mesh."""
        if self.world == 1:
            return model
        from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

        for block in model.layers:  # type: ignore[union-attr]
            fully_shard(block, mesh=self.mesh)
        fully_shard(model, mesh=self.mesh)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)  # gloo has no scaled sum
        for method in ("loss", "token_losses"):
            register_fsdp_forward_method(model, method)
        return model

    def whole(self, tensor: Tensor) -> Tensor:
        """The full value of a tensor that may be sharded."""
        return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor

    def divided(self, work: Callable[[Tensor], Tensor], stack_SMN: Tensor) -> Tensor:
        """`work` on a stack of matrices that every rank holds: each rank does its share, and all get all."""
        if self.world == 1:
            return work(stack_SMN)
        share = -(-len(stack_SMN) // self.world)
        mine = slice(self.rank * share, min((self.rank + 1) * share, len(stack_SMN)))
        done = torch.zeros_like(stack_SMN, dtype=torch.bfloat16)
        if len(stack_SMN[mine]):
            done[mine] = work(stack_SMN[mine])
        dist.all_reduce(done)
        return done

    def like(self, whole: Tensor, parameter: Tensor) -> Tensor:
        """A tensor that every rank holds, sharded as the parameter is."""
        if self.world == 1:
            return whole
        from torch.distributed.tensor import DTensor, distribute_tensor

        assert isinstance(parameter, DTensor)
        return distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)

    def write(self, tensors: dict[str, Tensor], file: Path) -> None:
        """Write one safetensors file. Several processes write their shards with DCP, which then joins them."""
        if self.world == 1:
            save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, file)
            return
        import torch.distributed.checkpoint as dcp

        folder = file.with_suffix(".shards")
        one_file = dict.fromkeys(tensors, 1)
        dcp.save(tensors, storage_writer=dcp.HuggingFaceStorageWriter(
            str(folder), save_distributed=True, enable_consolidation=True, fqn_to_index_mapping=one_file,
        ))  # fmt: skip
        self.wait()
        if self.writes:
            (folder / "model-00001-of-00001.safetensors").replace(file)
            shutil.rmtree(folder)

    def read(self, tensors: dict[str, Tensor], folder: Path) -> None:
        """Fill sharded tensors from the safetensors files of a folder, each rank reading its part (DCP)."""
        import torch.distributed.checkpoint as dcp

        dcp.load(tensors, storage_reader=dcp.HuggingFaceStorageReader(str(folder)))

    def wait(self) -> None:
        """Until every process is here."""
        if self.world > 1:
            dist.barrier()

    def sum(self, values: dict[str, float]) -> dict[str, float]:
        if self.world == 1:
            return values
        tensor = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return dict(zip(values, tensor.tolist(), strict=True))

    def add_up(self, tensors: list[Tensor]) -> None:
        """Each tensor's sum over all processes, in place."""
        if self.world > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def agree(self, value: Any) -> Any:
        """Rank 0's value, on every rank: decisions that depend on a clock must be one process's."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def first(self, work: Callable[[], Any]) -> Any:
        """What rank 0's `work` returns, on every rank; the others wait for it."""
        if self.world == 1:
            return work()
        box: list[Any] = [None]
        if self.writes:
            try:
                box = [work()]
            except FathomError as error:
                dist.broadcast_object_list([error], src=0)
                raise
        dist.broadcast_object_list(box, src=0)
        if isinstance(box[0], FathomError):
            raise box[0]
        return box[0]

    def close(self) -> None:
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()
