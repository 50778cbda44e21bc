"""Decoders from GGUF files: the LLaMA, Qwen2 and Qwen3 architectures, in any format that the `gguf` package can unpack.

llama.cpp stores the query and key rows of LLaMA models so that rotary pairs lie side by side; `transformers` and Fathom
keep them half a head apart, so those rows are put back. Names follow llama.cpp's `gguf-py/gguf/tensor_mapping.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fathom.errors import FathomError
from fathom.model.config import MOST_LAYERS, ModelConfig, RopeScaling
from fathom.model.decoder import Decoder
from fathom.model.families.gguf_header import GgufHeader, TensorRecord, read_header

_ARCHITECTURES = ("llama", "qwen2", "qwen3")
_TOP = {"token_embd": "embedding", "output_norm": "norm", "output": "head"}
_LAYER = {
    "attn_norm": "attention_norm", "attn_q": "attention.q_proj", "attn_k": "attention.k_proj",
    "attn_v": "attention.v_proj", "attn_output": "attention.o_proj", "attn_q_norm": "attention.q_norm",
    "attn_k_norm": "attention.k_norm", "ffn_norm": "feed_forward_norm", "ffn_gate": "feed_forward.gate_proj",
    "ffn_up": "feed_forward.up_proj", "ffn_down": "feed_forward.down_proj",
}  # fmt: skip


def load_gguf(path: Path | str) -> tuple[Decoder, GgufHeader]:
    """Read a GGUF file into a decoder with fp32 weights; the header comes along for its tokenizer.

    Raises `FathomError` with one sentence for a file that is damaged, hostile, incomplete or of an unknown
    architecture, before memory is taken for any weight.
    """
    header = read_header(path)
    config = config_from_gguf(header)
    weights = _weights(header, config)
    with torch.device("meta"):
        decoder = Decoder(config)
    decoder.load_state_dict(weights, strict=True, assign=True)
    return decoder, header


def config_from_gguf(header: GgufHeader) -> ModelConfig:
    """The shape of the model in the file. Raises `FathomError` for another architecture, or a key missing or out of
    range.
    """
    name = header.metadata.get("general.architecture")
    if name not in _ARCHITECTURES:
        raise FathomError(
            f"{header.path} holds a model of the architecture {name!r}; readable are {', '.join(_ARCHITECTURES)}"
        )
    if header.metadata.get(f"{name}.expert_count"):
        raise FathomError(
            f"{header.path} holds a mixture of experts of the architecture '{name}', which cannot be read from GGUF"
        )
    keys = _Keys(header, name)
    num_heads = keys.count("attention.head_count", 65_536)
    hidden_size = keys.count("embedding_length", 1 << 24)
    return ModelConfig(
        vocab_size=_record(header, "token_embd.weight").shape[0],
        hidden_size=hidden_size,
        num_layers=keys.count("block_count", MOST_LAYERS),
        num_heads=num_heads,
        num_kv_heads=keys.count("attention.head_count_kv", 65_536, num_heads),
        head_dim=keys.count("attention.key_length", 65_536, hidden_size // num_heads),
        qk_norm="blk.0.attn_q_norm.weight" in header.tensors,
        qkv_bias="blk.0.attn_q.bias" in header.tensors,
        intermediate_size=keys.count("feed_forward_length", 1 << 28),
        max_position_embeddings=keys.count("context_length", 1 << 31),
        rope_theta=keys.real("rope.freq_base", 10_000.0),
        rope_scaling=_rope_scaling(header, keys),
        rms_norm_eps=keys.real("attention.layer_norm_rms_epsilon"),
        tie_word_embeddings="output.weight" not in header.tensors,
    )


def _weights(header: GgufHeader, config: ModelConfig) -> dict[str, Tensor]:
    """Every weight of the model in fp32 under its name in `Decoder`; all shapes are checked before the first is
    unpacked.
    """
    wanted = _wanted(config)
    for name, (_, shape) in wanted.items():
        record = _record(header, name)
        if record.shape != shape:
            raise FathomError(
                f"{header.path}: tensor '{name}' has the shape {record.shape}; its metadata ask for {shape}"
            )
    data = np.memmap(header.path, mode="r", dtype=np.uint8)
    permuted = header.metadata["general.architecture"] == "llama"
    weights = {}
    for name, (ours, _) in wanted.items():
        values = _unpack(data, header.tensors[name], header.path)
        if permuted and (".attn_q." in name or ".attn_k." in name):
            values = _halves_apart(values, config.head_dim)
        weights[ours] = torch.from_numpy(values)
    return weights


def _wanted(config: ModelConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name in the file -> (name in `Decoder`, shape) of all tensors that the model needs."""
    hidden, ffn = config.hidden_size, config.intermediate_size
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "attn_norm": (hidden,), "ffn_norm": (hidden,), "attn_q": (queries, hidden), "attn_k": (keys, hidden),
        "attn_v": (keys, hidden), "attn_output": (hidden, queries), "ffn_gate": (ffn, hidden), "ffn_up": (ffn, hidden),
        "ffn_down": (hidden, ffn),
    }  # fmt: skip
    if config.qk_norm:
        shapes |= {"attn_q_norm": (config.head_dim,), "attn_k_norm": (config.head_dim,)}
    top: dict[str, tuple[int, ...]] = {"token_embd": (config.vocab_size, hidden), "output_norm": (hidden,)}
    if not config.tie_word_embeddings:
        top["output"] = (config.vocab_size, hidden)
    wanted = {f"{name}.weight": (f"{_TOP[name]}.weight", shape) for name, shape in top.items()}
    for layer in range(config.num_layers):
        theirs, ours = f"blk.{layer}.", f"layers.{layer}."
        wanted |= {f"{theirs}{name}.weight": (f"{ours}{_LAYER[name]}.weight", shape) for name, shape in shapes.items()}
        if config.qkv_bias:
            for name in ("attn_q", "attn_k", "attn_v"):
                wanted[f"{theirs}{name}.bias"] = (f"{ours}{_LAYER[name]}.bias", shapes[name][:1])
    return wanted


def _record(header: GgufHeader, name: str) -> TensorRecord:
    if name not in header.tensors:
        raise FathomError(f"{header.path} lacks the tensor '{name}', without which the model is not complete")
    return header.tensors[name]


def _unpack(data: np.ndarray, record: TensorRecord, path: Path) -> np.ndarray:
    """One tensor as float32, in its row-major shape."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    raw = data[record.offset : record.offset + record.num_bytes].reshape(*record.shape[:-1], -1)
    try:
        weights = dequantize(np.ascontiguousarray(raw), GGMLQuantizationType[record.kind])
    except NotImplementedError as error:
        raise FathomError(
            f"{path}: tensor '{record.name}' is stored as {record.kind}, which cannot be unpacked"
        ) from error
    return np.array(weights, dtype=np.float32).reshape(record.shape)


def _halves_apart(weights: np.ndarray, head_dim: int) -> np.ndarray:
    """Rows of each head from (pair 0 first, pair 0 second, pair 1 first, ...) to (all firsts, all seconds)."""
    pairs = weights.reshape(-1, head_dim // 2, 2, *weights.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(weights.shape)


class _Keys:
    """The metadata of one architecture, each value checked when it is asked for."""

    def __init__(self, header: GgufHeader, architecture: str) -> None:
        self.header, self.architecture = header, architecture

    def get(self, key: str) -> Any:
        return self.header.metadata.get(f"{self.architecture}.{key}")

    def count(self, key: str, most: int, default: int | None = None) -> int:
        """A whole number from 1 to `most`. A list that says the same for every layer counts as that number."""
        value = default if self.get(key) is None else self.get(key)
        if isinstance(value, list) and value and all(entry == value[0] for entry in value):
            value = value[0]
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise self.fail(key, value, f"a whole number from 1 to {most}, the same for every layer")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """A positive number, as short as its 32 bits allow (1e-05, not 9.99999974e-06)."""
        value = default if self.get(key) is None else self.get(key)
        if not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise self.fail(key, value, "a positive number")
        return float(str(np.float32(value)))

    def fail(self, key: str, value: object, right: str) -> FathomError:
        shown = "missing" if value is None else repr(value)[:60]
        return FathomError(f"{self.header.path}: {self.architecture}.{key} is {shown}; it must be {right}")


def _rope_scaling(header: GgufHeader, keys: _Keys) -> RopeScaling | None:
    """Linear scaling from the metadata, Llama 3.1's from the table of factors that llama.cpp stores in its place."""
    kind = keys.get("rope.scaling.type")
    if kind == "linear":
        return RopeScaling(
            kind="linear",
            factor=keys.real("rope.scaling.factor"),
            original_max_position_embeddings=keys.count("context_length", 1 << 31),
        )
    if kind not in (None, "none"):
        raise keys.fail("rope.scaling.type", kind, "none or linear")
    if "rope_freqs.weight" not in header.tensors:
        return None
    record = header.tensors["rope_freqs.weight"]
    factors = _unpack(np.memmap(header.path, mode="r", dtype=np.uint8), record, header.path)
    return _llama3_scaling(header, factors, keys)


def _llama3_scaling(header: GgufHeader, factors: np.ndarray, keys: _Keys) -> RopeScaling:
    """The published Llama 3 scaling (8,192 positions stretched) whose factors are those of the file; refused if
    none is.
    """
    scaling = RopeScaling(
        kind="llama3",
        factor=float(factors.max()),
        original_max_position_embeddings=8192,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
    )
    num_pairs = factors.size
    wavelengths = 2 * np.pi * keys.real("rope.freq_base", 10_000.0) ** (np.arange(num_pairs) / num_pairs)
    smooth = np.clip((8192 / wavelengths - 1.0) / 3.0, 0.0, 1.0)
    expected = 1.0 / ((1.0 - smooth) / scaling.factor + smooth)
    if not np.allclose(factors, expected, rtol=1e-3):
        raise FathomError(
            f"{header.path} stretches its rotary positions (rope_freqs.weight) in a way that is not Llama "
            f"3's; it cannot be read"
        )
    return scaling
