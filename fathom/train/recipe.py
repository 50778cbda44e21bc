"""A recipe: everything that decides a training run, in one validated tree that is written out in full beside the run.

A recipe file (`recipes/*.toml`, or the user's own) holds only what differs from the defaults below; `recipe.toml` in
a run folder holds every key. Unknown keys and wrong types are refused with the key's full name, see `recipe_files`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from fathom.model.config import ModelConfig
from fathom.train.model_table import read_model

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveFloat = Annotated[float, Field(gt=0.0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True, allow_inf_nan=False)


class RequestSection(_Section):
    """What the person asked for, word for word: the same request finds the same run again after a kill."""

    paths: list[str] = []
    budget: str = ""
    start_from: str = ""  # --from
    recipe: str = ""
    size: str = ""
    sets: list[str] = []


class DataSection(_Section):
    """What is learnt from. The tokenizer is trained with `vocab_size` entries unless `tokenizer` names a folder."""

    sources: list[str] = []  # what to read where the command line names no paths
    prepared: str = ""  # folder of the token shards; empty: prepared by the command line from `sources`
    manifest_sha256: str = ""  # of the prepared data; a resumed run refuses other data
    text_column: str = ""  # where tables keep the text; empty: `text`, or `messages`
    tokenizer: str = ""
    vocab_size: int = Field(default=4096, ge=264)
    held_out_fraction: float = Field(default=0.02, gt=0.0, lt=0.5)
    # held-out tokens of a domain that are scored: one standard error is then about 0.5% of its bits per byte
    evaluation_tokens: int = Field(default=100_000, gt=0)
    weights: dict[str, float] = {}  # share of rows by domain or source name; empty: every row once an epoch


class TrainSection(_Section):
    """How much is learnt and in which portions. A step sees `rows_per_step` x `sequence_length` tokens."""

    steps: int = Field(default=0, ge=0)  # 0: as many as the budget's seconds allow
    sequence_length: Positive = 512
    rows_per_step: Positive = 8
    micro_batch_rows: Positive = 8  # rows held in memory at once; the rest is accumulated
    learning_rate: PositiveFloat = 3e-3  # peak; of matrices, and times the optimizer's ratios of the rest
    precision: Literal["bf16", "fp32"] = "bf16"  # of the products; parameters and optimizer state are always fp32
    checkpoint_activations: bool = False  # recompute each block in the backward pass instead of keeping it


class OptimizerSection(_Section):
    """Muon for hidden matrices and experts, AdamW for the rest; or AdamW for all.

    Muon's update is scaled by 0.2 * sqrt(max(rows, columns)), so that it has the root mean square of an AdamW step
    and one learning rate and weight decay serve both (arXiv:2502.16982, section 2.2).
    """

    kind: Literal["muon", "adamw"] = "muon"
    momentum: Fraction = 0.95
    beta1: Fraction = 0.9
    beta2: Fraction = 0.95
    epsilon: PositiveFloat = 1e-10
    weight_decay: float = Field(default=0.1, ge=0.0)  # decoupled; times the learning rate; matrices only
    embedding_ratio: PositiveFloat = 1.0  # learning rate of the embedding, over that of the matrices
    head_ratio: PositiveFloat = 1.0  # of the output projection
    vector_ratio: PositiveFloat = 1.0  # of norms, biases and router weights
    clip_norm: float = Field(default=1.0, ge=0.0)  # of the whole gradient; 0: not clipped
    balance_rate: float = Field(default=1e-3, ge=0.0)  # step of the router bias (arXiv:2412.19437, section 4.2)
    balance_loss: float = Field(default=1e-4, ge=0.0)  # weight of the sequence-wise balance loss (the same section)
    mtp_loss: float = Field(default=0.3, ge=0.0)  # weight of the multi-token losses (the same section)


class ScheduleSection(_Section):
    """Warm-up, stable, decay (arXiv:2404.06395): linear up, flat, then down to `final_ratio` of the peak."""

    warmup_steps: int = Field(default=0, ge=0)  # 0: warmup_fraction of the steps
    warmup_fraction: Fraction = 0.02
    decay_fraction: Fraction = 0.4
    decay_shape: Literal["linear", "sqrt", "cosine"] = "linear"
    final_ratio: Fraction = 0.0


class CheckpointSection(_Section):
    """What is kept on disk. The last checkpoint of a finished run is always kept."""

    every_steps: int = Field(default=0, ge=0)  # 0: by the clock
    every_seconds: PositiveFloat = 120.0
    keep_last: Positive = 2


class GuardSection(_Section):
    """What happens when the loss is not a number or leaps."""

    action: Literal["stop", "rollback"] = "stop"
    spike_factor: float = Field(default=0.0, ge=0.0)  # a loss above this many times the recent median; 0: not watched
    rollback_learning_rate_ratio: Fraction = 0.5
    max_rollbacks: int = Field(default=3, ge=0)


class BudgetSection(_Section):
    """What may be spent. Zero: no limit; `train.steps` then says when to stop."""

    seconds: float = Field(default=0.0, ge=0.0)  # of the training loop itself


class Recipe(_Section):
    """One training run. Field groups are the tables of the TOML file."""

    name: str = "unnamed"
    seed: int = Field(default=1, ge=0, lt=2**31)
    purpose: Literal["final", "ablation", "tuning"] = "final"
    model: Annotated[ModelConfig, BeforeValidator(read_model)]
    request: RequestSection = RequestSection()
    data: DataSection = DataSection()
    train: TrainSection = TrainSection()
    optimizer: OptimizerSection = OptimizerSection()
    schedule: ScheduleSection = ScheduleSection()
    checkpoint: CheckpointSection = CheckpointSection()
    guard: GuardSection = GuardSection()
    budget: BudgetSection = BudgetSection()

    @model_validator(mode="after")
    def _fits_its_context(self) -> Recipe:
        asked, longest = self.train.sequence_length, self.model.max_position_embeddings
        if asked > longest:
            raise ValueError(f"train.sequence_length {asked} exceeds model.max_position_embeddings {longest}")
        return self

    @property
    def tokens_per_step(self) -> int:
        return self.train.rows_per_step * self.train.sequence_length

    def with_changes(self, **sections: dict[str, object]) -> Recipe:
        """A copy with keys replaced: `recipe.with_changes(train={"steps": 10}, model={"num_layers": 2})`."""
        import dataclasses

        changed: dict[str, object] = {}
        for section, values in sections.items():
            now = getattr(self, section)
            if section == "model":
                changed[section] = dataclasses.replace(now, **values)
            elif isinstance(now, BaseModel):
                changed[section] = type(now).model_validate({**now.model_dump(), **values})
            else:
                changed[section] = values
        return self.model_copy(update=changed)
