"""Does it fit? Memory is predicted before anything is allocated, and a run that cannot fit is refused with the
number.
"""

from __future__ import annotations

from pathlib import Path

import torch

from fathom.cost.memory import training_memory_bytes
from fathom.errors import FathomError
from fathom.train.recipe import Recipe

RESERVE_BYTES = (
    400e6  # the interpreter, torch's libraries and its allocator's slack (measured: 330 MB resident before a model)
)


def predicted_bytes(recipe: Recipe, world: int = 1) -> dict[str, float]:
    """Bytes by component on one of `world` processes: weights, gradients and optimizer state are sharded."""
    train = recipe.train
    parts = training_memory_bytes(
        recipe.model,
        train.micro_batch_rows,
        train.sequence_length,
        recipe.optimizer.kind,
        "bfloat16" if train.precision == "bf16" else "float32",
        "full" if train.checkpoint_activations else "none",
    )
    return {name: value if name in ("activations", "logits") else value / world for name, value in parts.items()}


def available_bytes(device: torch.device) -> float:
    """Memory that a new allocation may use: of the GPU, or of the host within this process's control group."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    import psutil

    return min([float(psutil.virtual_memory().available), *_cgroup_room()])


def _cgroup_room() -> list[float]:
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    try:
        return [float(limit.read_text()) - float(used.read_text())]
    except (OSError, ValueError):  # no version-2 group here, or no limit ("max")
        return []


def check_memory(recipe: Recipe, device: torch.device, world: int = 1) -> dict[str, float]:
    """The prediction. Raises FathomError with both numbers and the largest part where it is more than there is."""
    parts = predicted_bytes(recipe, world)
    needed, room = sum(parts.values()) + RESERVE_BYTES, available_bytes(device)
    if needed > room:
        largest = max(parts, key=lambda name: parts[name])
        helps = (
            "a smaller train.micro_batch_rows or train.checkpoint_activations=true"
            if largest in ("activations", "logits")
            else "a smaller model"
        )
        raise FathomError(
            f"this run needs {needed / 1e9:.2f} GB of memory ({largest}: {parts[largest] / 1e9:.2f} GB) and "
            f"{room / 1e9:.2f} GB are free; {helps} would help"
        )
    return parts
