"""The shape of a decoder: one dataclass for both families, free of torch so that costs can be computed anywhere.

Names are those of the published configurations (DeepSeek-V3 `config.json`, `LlamaConfig`, `Qwen3MoeConfig`) where one
exists. Two choices are independent of each other: `attention` (grouped-query or latent) and the feed-forward network
(dense where `num_experts` is 0, a mixture of experts after `first_dense_layers` otherwise).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fathom.errors import FathomError

MOST_LAYERS = 4096  # of a believable model; the deepest published decoders have about 130


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Rotary frequencies stretched for contexts longer than the trained one.

    `yarn` follows arXiv:2309.00071 with DeepSeek's softmax scale (`mscale`, `mscale_all_dim`); `llama3` follows the
    Llama 3.1 release; `linear` divides every position by `factor`.
    """

    kind: Literal["yarn", "llama3", "linear"]
    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 0.0  # 0: not given; the rotary attention factor then follows from `factor` alone
    mscale_all_dim: float = 0.0
    attention_factor: float = 0.0  # 0: derived from factor, mscale and mscale_all_dim
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that decides a decoder's parameters and FLOPs."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int

    attention: Literal["grouped", "latent"] = "grouped"
    # grouped-query attention
    num_kv_heads: int = 0  # 0: as many as num_heads
    head_dim: int = 0  # 0: hidden_size / num_heads
    qk_norm: bool = False
    qkv_bias: bool = False
    # multi-head latent attention (arXiv:2412.19437, section 2.1.1)
    q_lora_rank: int = 0  # 0: queries are not compressed
    kv_lora_rank: int = 0
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    v_head_dim: int = 0

    intermediate_size: int = 0  # of the dense feed-forward layers
    # mixture of experts (arXiv:2412.19437, section 2.1.2)
    num_experts: int = 0  # routed experts a layer; 0: every layer is dense
    num_experts_per_token: int = 0
    num_shared_experts: int = 0
    moe_intermediate_size: int = 0  # of one expert
    first_dense_layers: int = 0
    num_expert_groups: int = 1
    num_groups_per_token: int = 1
    router_scoring: Literal["sigmoid", "softmax"] = "sigmoid"
    router_bias: bool = True  # the auxiliary-loss-free balancing bias
    normalize_expert_weights: bool = True
    routed_scaling_factor: float = 1.0

    num_mtp_layers: int = 0  # multi-token prediction (arXiv:2412.19437, section 2.2)

    max_position_embeddings: int = 4096
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False

    def __post_init__(self) -> None:
        if not self.num_kv_heads:
            object.__setattr__(self, "num_kv_heads", self.num_heads)
        if self.attention == "grouped" and not self.head_dim:
            _require(
                self.hidden_size % self.num_heads == 0,
                "hidden_size",
                self.hidden_size,
                f"a multiple of num_heads = {self.num_heads}",
            )
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_heads)
        self._check()

    def _check(self) -> None:
        for name in ("vocab_size", "hidden_size", "num_layers", "num_heads", "max_position_embeddings"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "a positive number")
        _require(self.num_layers <= MOST_LAYERS, "num_layers", self.num_layers, f"at most {MOST_LAYERS}")
        if self.attention == "grouped":
            _require(
                self.num_heads % self.num_kv_heads == 0,
                "num_heads",
                self.num_heads,
                f"a multiple of num_kv_heads = {self.num_kv_heads}",
            )
            _require(self.head_dim % 2 == 0, "head_dim", self.head_dim, "even, for rotary positions")
        else:
            for name in ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
                _require(getattr(self, name) > 0, name, getattr(self, name), "a positive number with latent attention")
            _require(
                self.qk_rope_head_dim % 2 == 0, "qk_rope_head_dim", self.qk_rope_head_dim, "even, for rotary positions"
            )
        if self.num_dense_layers:
            _require(
                self.intermediate_size > 0,
                "intermediate_size",
                self.intermediate_size,
                "a positive number where layers are dense",
            )
        if self.num_experts:
            _require(
                0 < self.num_experts_per_token <= self.num_experts,
                "num_experts_per_token",
                self.num_experts_per_token,
                f"between 1 and num_experts = {self.num_experts}",
            )
            _require(
                self.moe_intermediate_size > 0,
                "moe_intermediate_size",
                self.moe_intermediate_size,
                "a positive number with experts",
            )
            _require(
                self.num_experts % self.num_expert_groups == 0,
                "num_experts",
                self.num_experts,
                f"a multiple of num_expert_groups = {self.num_expert_groups}",
            )
            _require(
                0 < self.num_groups_per_token <= self.num_expert_groups,
                "num_groups_per_token",
                self.num_groups_per_token,
                f"between 1 and num_expert_groups = {self.num_expert_groups}",
            )
            reachable = self.num_experts // self.num_expert_groups * self.num_groups_per_token
            _require(
                self.num_experts_per_token <= reachable,
                "num_experts_per_token",
                self.num_experts_per_token,
                f"at most {reachable}, the experts in the groups that a token may use",
            )
            _require(
                0 <= self.first_dense_layers <= self.num_layers,
                "first_dense_layers",
                self.first_dense_layers,
                f"between 0 and num_layers = {self.num_layers}",
            )

    @property
    def num_dense_layers(self) -> int:
        return self.first_dense_layers if self.num_experts else self.num_layers

    @property
    def num_moe_layers(self) -> int:
        return self.num_layers - self.num_dense_layers

    @property
    def qk_head_dim(self) -> int:
        """Width of one head's query and key."""
        return self.head_dim if self.attention == "grouped" else self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def rotary_dim(self) -> int:
        """Dimensions of one head's query and key that carry the position."""
        return self.head_dim if self.attention == "grouped" else self.qk_rope_head_dim


def _require(condition: bool, name: str, value: object, right: str) -> None:
    if not condition:
        raise FathomError(f"model.{name} = {value!r} cannot be used: it must be {right}")
