"""Tokenizers of published models, read from the files that `transformers` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fathom.data.template import MAX_TEMPLATE_BYTES
from fathom.errors import FathomError, MissingExtra

if TYPE_CHECKING:
    from fathom.data.tokenizer import Tokenizer

_ROLES = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")
_KEPT = ("model_max_length", "clean_up_tokenization_spaces", "add_prefix_space")


def load_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer of a folder in `transformers` layout; raises `FathomError` that names the file at fault."""
    from fathom.data.tokenizer import Tokenizer

    try:
        import tokenizers
    except ImportError as error:
        raise MissingExtra("tokenizers") from error
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise FathomError(
            f"{directory} has no tokenizer.json; save the tokenizer in its fast form, as transformers' "
            "save_pretrained does"
        )
    try:
        full = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise FathomError(f"cannot read {path}: {error}") from error
    config = _read_json(directory / "tokenizer_config.json")
    generation = _read_json(directory / "generation_config.json")
    special = {**_special(_read_json(directory / "special_tokens_map.json")), **_special(config)}
    return Tokenizer(
        full,
        special_tokens=special,
        chat_template=_chat_template(directory, config),
        extra_eos=_ending_texts(full, generation),
        add_bos=_adds_bos(full, config, special),
        config={key: config[key] for key in _KEPT if key in config},
    )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FathomError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise FathomError(f"cannot read {path}: it holds a {type(content).__name__}, not an object")
    return content


def _special(config: dict[str, Any]) -> dict[str, str]:
    """Role to text; a token is written as a string or as an object with `content`."""
    found = {}
    for role in _ROLES:
        value = config.get(role)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            found[role] = text
    return found


def _chat_template(directory: Path, config: dict[str, Any]) -> str | None:
    """`chat_template.jinja` before the template inside the configuration, of several there the one called default."""
    path = directory / "chat_template.jinja"
    if path.is_file():
        if path.stat().st_size > MAX_TEMPLATE_BYTES:
            raise FathomError(
                f"{path} has {path.stat().st_size} bytes; a chat template of more than {MAX_TEMPLATE_BYTES} is refused"
            )
        try:
            return path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise FathomError(f"cannot read {path}: {error}") from error
    inline = config.get("chat_template")
    if isinstance(inline, list):
        named = {entry.get("name"): entry.get("template") for entry in inline if isinstance(entry, dict)}
        inline = named.get("default")
    if isinstance(inline, str) and len(inline.encode("utf-8", "replace")) > MAX_TEMPLATE_BYTES:
        raise FathomError(
            f"the chat template in {directory / 'tokenizer_config.json'} has more than {MAX_TEMPLATE_BYTES} bytes "
            "and is refused"
        )
    return inline if isinstance(inline, str) else None


def _ending_texts(full: Any, generation: dict[str, Any]) -> list[str]:
    """Texts of the end tokens that the generation configuration names beside the tokenizer's own."""
    ids = generation.get("eos_token_id", [])
    texts = (full.id_to_token(id_) for id_ in (ids if isinstance(ids, list) else [ids]) if isinstance(id_, int))
    return [text for text in texts if text is not None]


def _adds_bos(full: Any, config: dict[str, Any], special: dict[str, str]) -> bool:
    """Does the tokenizer put BOS before a text? Its post-processor says so; `add_bos_token` decides without one."""
    bos = special.get("bos_token")
    if bos is None:
        return False
    if full.encode("a", add_special_tokens=True).ids[:1] == [full.token_to_id(bos)]:
        return True
    return config.get("add_bos_token") is True
