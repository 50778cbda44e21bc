"""The run folder: what lies where, and the identity by which the same request finds its run again."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fathom.errors import FathomError
from fathom.train.durable import write_json, write_text
from fathom.train.recipe import Recipe
from fathom.train.recipe_files import load_recipe, recipe_toml
from fathom.train.schedule import Plan

if TYPE_CHECKING:
    from fathom.model.decoder import Decoder


@dataclass(frozen=True)
class RunFolder:
    """`runs/NAME`: recipe.toml, ledger.jsonl, data/manifest.json, tokenizer/, plan.json, checkpoints/."""

    path: Path

    @property
    def recipe_file(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer"

    @property
    def exists(self) -> bool:
        return self.recipe_file.is_file()

    @property
    def finished(self) -> bool:
        return (self.path / "finished.json").is_file()

    def recipe(self) -> Recipe:
        """Raises FathomError where this is no run folder."""
        if not self.exists:
            raise FathomError(f"{self.path} is not a run folder: it has no recipe.toml")
        return load_recipe(self.recipe_file)

    def write_recipe(self, recipe: Recipe) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.recipe_file, recipe_toml(recipe))

    def plans(self) -> list[Plan]:
        file = self.path / "plan.json"
        if not file.is_file():
            return []
        try:
            return [Plan(**entry) for entry in json.loads(file.read_text(encoding="utf-8"))]
        except (ValueError, TypeError) as error:
            raise FathomError(f"{file} is not this version's plan: {error}") from None

    def write_plans(self, plans: list[Plan]) -> None:
        write_json(self.path / "plan.json", [dataclasses.asdict(plan) for plan in plans])

    def finish(self, summary: dict[str, object]) -> None:
        write_json(self.path / "finished.json", summary)

    def decoder(self) -> Decoder:
        """The model of the newest checkpoint, verified, on the CPU, in fp32. Raises FathomError if there is none."""
        from fathom.model.decoder import Decoder
        from fathom.train.checkpoint import load_latest

        recipe, checkpoint = self.recipe(), load_latest(self.path)
        if checkpoint is None:
            raise FathomError(f"{self.path} has no checkpoint yet; run the same command again to train on")
        decoder = Decoder(recipe.model)
        load_weights(decoder, checkpoint.tensors("model"))
        return decoder


def load_weights(decoder: Decoder, tensors: dict) -> None:
    """Put checkpoint tensors into a model. Raises FathomError naming the first that does not fit."""
    own = decoder.state_dict()
    for name in sorted(own.keys() ^ tensors.keys()):
        raise FathomError(f"the checkpoint is of another model: '{name}' is missing or too many")
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            raise FathomError(
                f"the checkpoint is of another model: '{name}' has shape {tuple(tensors[name].shape)}, not "
                f"{tuple(tensor.shape)}"
            )
    decoder.load_state_dict(tensors)
