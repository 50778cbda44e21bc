"""The optimizer: Muon for hidden matrices and experts, AdamW for embeddings, output projection, router, norms and
biases.

Weight decay is decoupled (arXiv:1711.05101): each step shrinks a weight by learning rate x weight decay before the
update. It applies to hidden matrices and experts only; embeddings, norms, biases and router weights are not decayed
(the practice of GPT-3 onwards for vectors; for embeddings see OLMo 2, arXiv:2501.00656, section 3.4).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fathom.errors import FathomError
from fathom.train.muon import orthogonalize, rms_matched_scale
from fathom.train.parallel import Parallel
from fathom.train.recipe import OptimizerSection

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Role:
    """What a parameter is, which decides how it moves."""

    kind: str  # matrix | embedding | head | vector
    ratio: float  # of the recipe's learning rate
    decay: float


def role_of(name: str, parameter: Tensor, section: OptimizerSection) -> Role:
    if parameter.ndim < 2 or "router" in name or "norm" in name:
        return Role("vector", section.vector_ratio, 0.0)
    if name == "embedding.weight":
        return Role("embedding", section.embedding_ratio, 0.0)
    if name == "head.weight":
        return Role("head", section.head_ratio, 0.0)
    return Role("matrix", 1.0, section.weight_decay)


class Optimizer:
    """Both optimizers behind one `step`. State is kept by parameter name, so that a checkpoint reads like the model.

    A stack of experts [E, M, N] is E matrices. Matrices of one shape are orthogonalised together.
    """

    def __init__(self, model: nn.Module, section: OptimizerSection, parallel: Parallel | None = None) -> None:
        self.section, self.parallel = section, parallel or Parallel()
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.roles = {name: role_of(name, p, section) for name, p in self.parameters.items()}
        muon = [n for n, role in self.roles.items() if role.kind == "matrix"] if section.kind == "muon" else []
        self.momentum = {n: torch.zeros_like(self.parameters[n]) for n in muon}
        self.stacks = self._group(muon)
        self.adamw = self._build_adamw([n for n in self.parameters if n not in self.momentum])

    def _group(self, names: list[str]) -> list[list[str]]:
        stacks: dict[Shape, list[str]] = defaultdict(list)
        for name in names:
            stacks[tuple(self.parameters[name].shape[-2:])].append(name)
        return list(stacks.values())

    def _build_adamw(self, names: list[str]) -> torch.optim.AdamW:
        groups: dict[Role, list[str]] = defaultdict(list)
        for name in names:
            groups[self.roles[name]].append(name)
        section = self.section
        return torch.optim.AdamW(
            [
                {"params": [self.parameters[n] for n in group], "role": role, "weight_decay": role.decay}
                for role, group in groups.items()
            ],
            betas=(section.beta1, section.beta2),
            eps=section.epsilon,
            fused=True,
        )

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move every parameter by its gradient. Gradients are summed and scaled by the caller."""
        for group in self.adamw.param_groups:
            group["lr"] = learning_rate * group["role"].ratio
        self.adamw.step()
        for stack in self.stacks:
            self._muon_step(stack, learning_rate)

    def _muon_step(self, names: list[str], learning_rate: float) -> None:
        parameters: list[Tensor] = [self.parameters[n] for n in names]
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        momenta = [self.momentum[n] for n in names]
        beta = self.section.momentum
        torch._foreach_lerp_(momenta, gradients, 1.0 - beta)
        updates = torch._foreach_lerp(gradients, momenta, beta)  # Nesterov
        stack_SMN = torch.cat([self.parallel.whole(u).reshape(-1, *u.shape[-2:]) for u in updates])
        orthogonal_SMN = self.parallel.divided(orthogonalize, stack_SMN)
        parts = orthogonal_SMN.split([u.numel() // (u.size(-1) * u.size(-2)) for u in updates])
        rows, columns = stack_SMN.shape[-2:]
        rate = learning_rate * rms_matched_scale(rows, columns)
        moves = [self.parallel.like(x.reshape(p.shape).float(), p) for x, p in zip(parts, parameters, strict=True)]
        torch._foreach_mul_(parameters, 1.0 - learning_rate * self.section.weight_decay)
        torch._foreach_add_(parameters, moves, alpha=-rate)

    def zero_gradients(self) -> None:
        for parameter in self.parameters.values():
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """Every tensor needed to go on, by name: momentum.NAME, first.NAME, second.NAME (AdamW's count is the
        step's).
        """
        tensors = {f"momentum.{name}": tensor for name, tensor in self.momentum.items()}
        for name, parameter in self.parameters.items():
            if name not in self.momentum and (state := self.adamw.state.get(parameter)):
                tensors |= {f"first.{name}": state["exp_avg"], f"second.{name}": state["exp_avg_sq"]}
        return tensors

    def empty_state(self) -> dict[str, Tensor]:
        """Tensors of the names and shapes of a full state, to be read into."""
        tensors = {f"momentum.{name}": torch.zeros_like(momentum) for name, momentum in self.momentum.items()}
        for name, parameter in self.parameters.items():
            if name not in self.momentum:
                tensors |= {f"{part}.{name}": torch.zeros_like(parameter) for part in ("first", "second")}
        return tensors

    def load(self, tensors: dict[str, Tensor], step: int) -> None:
        """Take up the state after `step` completed steps. Raises FathomError if it is another model's."""
        expected = {f"momentum.{n}" for n in self.momentum}
        adam = [n for n in self.parameters if n not in self.momentum]
        expected |= {f"{part}.{n}" for n in adam for part in ("first", "second")} if step else set()
        if expected != tensors.keys():
            odd = sorted(expected ^ tensors.keys())[0]
            raise FathomError(f"the optimizer state is of another model or recipe: '{odd}' is missing or too many")
        for name, momentum in self.momentum.items():
            momentum.copy_(tensors[f"momentum.{name}"])
        for name in adam if step else []:
            parameter = self.parameters[name]
            self.adamw.state[parameter] = {
                "step": torch.tensor(float(step), dtype=torch.float32),
                "exp_avg": tensors[f"first.{name}"].clone(),
                "exp_avg_sq": tensors[f"second.{name}"].clone(),
            }
