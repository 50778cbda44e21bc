"""Folders in transformers' layout: read into a Decoder, written from one, logits alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fathom.errors import FathomError
from fathom.model.config import ModelConfig
from fathom.model.decoder import Decoder
from fathom.model.families.hf_config import config_from_hf, config_to_hf
from fathom.model.families.hf_names import Entry, entries, halves_to_interleaved, interleaved_to_halves, shared_copies
from fathom.model.families.safetensors_file import Checkpoint, write_shards

__all__ = ["config_from_hf", "config_to_hf", "load_pretrained", "read_config", "save_pretrained"]

MAX_SHARD_BYTES = 5_000_000_000  # transformers' own size


def read_config(directory: Path | str) -> dict[str, Any]:
    """`config.json` of a folder. Raises FathomError where it is missing or no JSON object."""
    path = Path(directory) / "config.json"
    if not path.is_file():
        raise FathomError(f"{directory} has no config.json, so it is no folder in transformers' layout")
    try:
        hf = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FathomError(f"{path} is not JSON: {error}") from None
    if not isinstance(hf, dict):
        raise FathomError(f"{path} must hold a JSON object, not {type(hf).__name__}")
    return hf


def load_pretrained(directory: Path | str, dtype: torch.dtype = torch.float32) -> tuple[Decoder, ModelConfig]:
    """The model of a folder with `config.json` and safetensors, its parameters in `dtype`.

    Raises FathomError naming the file or tensor for a file cut short, a tensor missing, of another shape or not
    understood, and for an output projection that contradicts `tie_word_embeddings`.
    """
    directory = Path(directory)
    hf = read_config(directory)
    config = config_from_hf(hf)
    checkpoint = Checkpoint(directory)
    names = checkpoint.names()
    if f"model.layers.{config.num_layers}.eh_proj.weight" not in names:
        config = replace(config, num_mtp_layers=0)  # transformers declares the heads but does not keep them
    _refuse_unknown(directory, config, names)
    _check_tied(directory, config, checkpoint)
    interleaved = config.attention == "latent" and hf.get("rope_interleave", True) is not False
    with torch.device("meta"):
        decoder = Decoder(config)
    decoder = decoder.to_empty(device="cpu").to(dtype)
    _fill(decoder, checkpoint, interleaved)
    return decoder, config


def _refuse_unknown(directory: Path, config: ModelConfig, names: set[str]) -> None:
    """Weights that nothing here would use mean that the model is not the one computed here."""
    known = {entry.theirs for entry in (*entries(config), *shared_copies(config))} | {"lm_head.weight"}
    later = tuple(f"model.layers.{config.num_layers + depth}." for depth in range(config.num_mtp_layers, 8))
    unknown = sorted(
        name for name in names - known if not name.endswith("rotary_emb.inv_freq") and not name.startswith(later)
    )
    if unknown:
        raise FathomError(
            f"{directory} has {len(unknown)} tensors that its config.json does not explain, such as {unknown[0]}"
        )


def _check_tied(directory: Path, config: ModelConfig, checkpoint: Checkpoint) -> None:
    names = checkpoint.names()
    if not config.tie_word_embeddings:
        if "lm_head.weight" not in names:
            raise FathomError(
                f"{directory} lacks the tensor lm_head.weight, and its config.json does not tie it to the embedding"
            )
    elif "lm_head.weight" in names:
        _check_copy(directory, checkpoint, "lm_head.weight", "model.embed_tokens.weight")
    for copy in shared_copies(config):
        original = "lm_head.weight" if copy.ours == "head.weight" else "model.embed_tokens.weight"
        if copy.theirs in names:
            _check_copy(directory, checkpoint, copy.theirs, original)


def _check_copy(directory: Path, checkpoint: Checkpoint, copy: str, original: str) -> None:
    if not torch.equal(checkpoint.read(copy), checkpoint.read(original)):
        raise FathomError(
            f"{directory} stores a {copy} that differs from {original}, though the two are one weight in this model"
        )


@torch.no_grad()
def _fill(decoder: Decoder, checkpoint: Checkpoint, interleaved: bool) -> None:
    ours = dict(decoder.named_parameters()) | dict(decoder.named_buffers())
    for entry in entries(decoder.config):
        tensor = checkpoint.read(entry.theirs)
        if interleaved and entry.rotary_heads:
            tensor = interleaved_to_halves(tensor, entry.rotary_heads, decoder.config.qk_rope_head_dim)
        target = ours[entry.ours] if entry.expert is None else ours[entry.ours][entry.expert]
        if tensor.shape != target.shape:
            raise FathomError(
                f"{checkpoint.directory}: tensor {entry.theirs} has shape {list(tensor.shape)}, "
                f"its config.json wants {list(target.shape)}"
            )
        target.copy_(tensor)
    for router in decoder.routers():
        router.load.zero_()


def save_pretrained(
    decoder: Decoder,
    directory: Path | str,
    dtype: torch.dtype = torch.bfloat16,
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    config_extras: dict[str, Any] | None = None,
) -> None:
    """Write `config.json` and safetensors that transformers loads unmodified.

    `config_extras` adds keys such as token numbers to `config.json`. The router bias stays fp32, as DeepSeek keeps it.
    Raises FathomError where transformers has no model that computes the same.
    """
    directory = Path(directory)
    hf = config_to_hf(decoder.config) | {
        "dtype": str(dtype).removeprefix("torch."),
        "torch_dtype": str(dtype).removeprefix("torch."),
    }
    directory.mkdir(parents=True, exist_ok=True)
    write_shards(directory, _tensors(decoder, dtype), max_shard_bytes)
    (directory / "config.json").write_text(json.dumps(hf | (config_extras or {}), indent=2) + "\n", encoding="utf-8")


def _tensors(decoder: Decoder, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    ours = dict(decoder.named_parameters()) | dict(decoder.named_buffers())
    for entry in entries(decoder.config):
        yield entry.theirs, _exported(ours[entry.ours].detach(), entry, decoder.config, dtype)
    for entry in shared_copies(decoder.config):  # the format lets no two tensors share memory
        yield entry.theirs, _exported(ours[entry.ours].detach(), entry, decoder.config, dtype).clone()
    if decoder.config.num_experts and not decoder.config.router_bias and decoder.config.router_scoring == "sigmoid":
        for layer in range(decoder.config.num_dense_layers, decoder.config.num_layers):
            yield f"model.layers.{layer}.mlp.gate.e_score_correction_bias", torch.zeros(decoder.config.num_experts)


def _exported(tensor: Tensor, entry: Entry, config: ModelConfig, dtype: torch.dtype) -> Tensor:
    if entry.expert is not None:
        tensor = tensor[entry.expert]
    if entry.rotary_heads:
        tensor = halves_to_interleaved(tensor, entry.rotary_heads, config.qk_rope_head_dim)
    return tensor.cpu() if entry.ours.endswith("router.bias") else tensor.cpu().to(dtype)
