"""`fathom export MODEL --to DIR`: weights, tokenizer, template and settings as `transformers` loads them."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fathom.errors import FathomError

if TYPE_CHECKING:
    from fathom.cli.models import OpenedModel

_STALE = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json", "chat_template.jinja")


@click.command("export")
@click.argument("model")
@click.option("--to", "directory", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option(
    "--dtype",
    type=click.Choice(["fp32", "bf16"]),
    default="fp32",
    show_default=True,
    help="fp32 keeps the weights exactly; bf16 halves them.",
)
@click.option("--force", is_flag=True, help="Write into a folder that already holds files.")
@click.option(
    "--runs", metavar="DIR", help="Workspace in which a run's name is looked up (default: runs, or FATHOM_RUNS)."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document: what was written.")
def command(model: str, directory: Path, dtype: str, force: bool, runs: str | None, as_json: bool) -> None:
    """Write MODEL (a run, or whatever `fathom chat` opens) as transformers loads it."""
    from fathom.cli.models import open_model

    check_target(directory, force=force)  # before the model is read
    written = export(open_model(model, runs=runs), directory, dtype=dtype, force=force)
    if as_json:
        click.echo(json.dumps(written, ensure_ascii=False))
    else:
        size = f"{written['bytes'] / 1e6:,.1f} MB in {len(written['files'])} files"
        click.echo(f"{written['architecture']} written to {directory}: {size}")


def check_target(directory: Path, *, force: bool) -> None:
    """Raises `FathomError` where `directory` is a file, or holds something and `force` was not asked for."""
    if directory.exists() and not directory.is_dir():
        raise FathomError(f"{directory} is a file; --to needs a folder")
    if not force and directory.is_dir() and any(directory.iterdir()):
        raise FathomError(f"{directory} is not empty; choose another folder, or write into it with --force")


def export(model: OpenedModel, directory: Path, *, dtype: str = "fp32", force: bool = False) -> dict[str, Any]:
    """Write the model; the folder appears whole or not at all, and its other files stay.

    Raises `FathomError` where `transformers` has no model that computes the same, or the folder is not empty without
    `force`.
    """
    import torch

    from fathom.model.families.huggingface import save_pretrained

    check_target(directory, force=force)
    directory.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        save_pretrained(
            model.decoder,
            aside,
            {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype],
            config_extras=_special_ids(model),
        )
        model.tokenizer.save(aside)
        text = json.dumps(generation_config(model), indent=2) + "\n"
        (aside / "generation_config.json").write_text(text, "utf-8")
        _move(aside, directory)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    files = {path.name: path.stat().st_size for path in sorted(directory.iterdir()) if path.is_file()}
    architecture = json.loads((directory / "config.json").read_text("utf-8"))["architectures"][0]
    return {
        "model": model.name,
        "directory": str(directory),
        "architecture": architecture,
        "dtype": dtype,
        "files": files,
        "bytes": sum(files.values()),
    }


def generation_config(model: OpenedModel) -> dict[str, Any]:
    """How the model is sampled from elsewhere: its ids and settings as `generation_config.json` has them."""
    sampling = {key: value for key, value in model.sampling.items() if value is not None}
    if not sampling.get("temperature"):
        sampling = {"do_sample": False}
    else:
        sampling["do_sample"] = True
    return {**_special_ids(model), "eos_token_id": sorted(model.stop_ids), **sampling}


def _special_ids(model: OpenedModel) -> dict[str, Any]:
    tokenizer = model.tokenizer
    eos = tokenizer.special_tokens.get("eos_token")
    ids = {
        "bos_token_id": tokenizer.bos_id,
        "pad_token_id": tokenizer.pad_id,
        "eos_token_id": tokenizer.token_id(eos) if eos else None,
    }
    return {key: value for key, value in ids.items() if value is not None}


def _move(aside: Path, directory: Path) -> None:
    """Put finished files in place; an older export's weights and template must not survive beside them."""
    directory.mkdir(exist_ok=True)
    for pattern in _STALE:
        for path in directory.glob(pattern):
            path.unlink()
    for path in aside.iterdir():
        path.replace(directory / path.name)
