"""`fathom import SPEC --name NAME`: a published checkpoint becomes a run folder of this workspace."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fathom.errors import FathomError

if TYPE_CHECKING:
    from fathom.cli.models import OpenedModel

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@click.command("import")
@click.argument("spec")
@click.option("--name", help="Name of the run (default: made from SPEC).")
@click.option("--runs", metavar="DIR", help="Workspace (default: runs, or FATHOM_RUNS).")
@click.option("--json", "as_json", is_flag=True, help="One JSON document: what was imported.")
def command(spec: str, name: str | None, runs: str | None, as_json: bool) -> None:
    """Bring SPEC (a folder of transformers, a .gguf file, smollm2 or hf:ORG/NAME) into the workspace as a run."""
    from fathom.cli.models import open_model
    from fathom.ledger.workspace import workspace_dir

    workspace = workspace_dir(runs)
    run_dir = workspace / (name or _name_of(spec))
    check_free(run_dir)  # before anything is fetched
    imported = import_model(open_model(spec, runs=runs), spec, run_dir, workspace)
    if as_json:
        click.echo(json.dumps(imported, ensure_ascii=False))
    else:
        click.echo(
            f"{spec} is now the run {run_dir.name}: {imported['parameters']:,} parameters; talk to it with: "
            f"fathom chat {run_dir.name}"
        )


def _name_of(spec: str) -> str:
    last = Path(spec.removeprefix("hf:").partition("@")[0].rstrip("/")).name
    return re.sub(r"[^\w.-]", "-", last.removesuffix(".gguf")) or "imported"


def check_free(run_dir: Path) -> None:
    """Raises `FathomError` for a name that is none, or one already taken in the workspace."""
    if not _NAME.fullmatch(run_dir.name):
        raise FathomError(
            f"'{run_dir.name}' cannot name a run: letters, digits, '.', '_' and '-' can, beginning with a "
            f"letter or digit"
        )
    if run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        raise FathomError(f"{run_dir} already exists; give the import another name with --name")


def import_model(model: OpenedModel, spec: str, run_dir: Path, workspace: Path) -> dict[str, Any]:
    """Write the run folder: recipe, tokenizer, one checkpoint at step 0, and a ledger that says where it came from."""
    from fathom.cli.export import generation_config
    from fathom.ledger.book import Ledger
    from fathom.train.checkpoint import save
    from fathom.train.recipe import Recipe, RequestSection, TrainSection
    from fathom.train.recipe_files import recipe_table
    from fathom.train.run_folder import RunFolder

    check_free(run_dir)
    length = min(TrainSection().sequence_length, model.config.max_position_embeddings)
    train, request = TrainSection(sequence_length=length), RequestSection(start_from=spec)
    recipe = Recipe(name=run_dir.name, model=model.config, request=request, train=train)
    folder = RunFolder(run_dir)
    with Ledger.create(run_dir, runs=workspace) as ledger:
        ledger.start(recipe=recipe_table(recipe))
        folder.write_recipe(recipe)
        model.tokenizer.save(folder.tokenizer)
        text = json.dumps(generation_config(model), indent=2) + "\n"
        (folder.tokenizer / "generation_config.json").write_text(text, "utf-8")
        weights = {name: tensor.float().contiguous() for name, tensor in model.decoder.state_dict().items()}
        checkpoint = save(run_dir, 0, model=weights, optimizer={}, state={"imported_from": model.source})
        ledger.checkpoint(step=0, path=checkpoint.path)
        ledger.note("import", f"weights of {spec}, not trained here", source=model.source)
        folder.finish({"imported_from": model.source})
    parameters = sum(parameter.numel() for parameter in model.decoder.parameters())
    return {
        "run": run_dir.name,
        "directory": str(run_dir),
        "source": model.source,
        "parameters": parameters,
        "model": dataclasses.asdict(model.config),
    }
