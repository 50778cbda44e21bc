"""Published models from the Hugging Face hub: weights as safetensors and a tokenizer, nothing that can run code."""

from __future__ import annotations

import re
from pathlib import Path

from fathom.errors import FathomError, MissingExtra

# No pickles (*.bin, *.pt, *.ckpt) and no Python: what is not on this list is never fetched.
_WANTED = [
    "config.json", "generation_config.json", "model.safetensors", "model-*.safetensors", "model.safetensors.index.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "chat_template.json", "tokenizer.model", "vocab.json", "merges.txt",
]  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")


def fetch(name: str) -> tuple[Path, str]:
    """Fetch `ORG/NAME` or `ORG/NAME@REVISION` into the hub's own cache; returns the folder and the commit fetched.

    `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN` and `HF_HUB_OFFLINE` mean what they mean to `huggingface_hub`. Raises
    `FathomError` for a name that is none, a repository that is missing, gated or without safetensors, or a hub out of
    reach.
    """
    if not _NAME.fullmatch(name):
        raise FathomError(
            f"'hf:{name}' names no repository of the hub: it should look like hf:ORG/NAME or hf:ORG/NAME@REVISION"
        )
    repository, _, revision = name.partition("@")
    folder = _download(repository, revision or None)
    if not (folder / "model.safetensors").is_file() and not (folder / "model.safetensors.index.json").is_file():
        raise FathomError(f"hf:{name} offers no model.safetensors; pickled weights can run code and are never fetched")
    return folder, folder.name


def _download(repository: str, revision: str | None) -> Path:
    try:
        import httpx
        from huggingface_hub import errors, snapshot_download
    except ImportError as error:
        raise MissingExtra("huggingface_hub") from error
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=_WANTED))
    except errors.GatedRepoError as error:
        raise FathomError(f"hf:{repository} is gated: accept its terms on the hub and set HF_TOKEN") from error
    except errors.RepositoryNotFoundError as error:
        raise FathomError(
            f"the hub has no repository '{repository}', or it is private and HF_TOKEN does not open it"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise FathomError(f"hf:{repository} has no revision '{revision}'") from error
    except errors.LocalEntryNotFoundError as error:
        raise FathomError(
            f"hf:{repository} is not in the local cache and the hub cannot be reached; check the network or HF_ENDPOINT"
        ) from error
    except (TypeError, KeyError, ValueError) as error:  # what the library does with a listing that is none
        raise FathomError(f"hf:{repository}: what answers at the hub's address is no hub ({error})") from error
    except (errors.HfHubHTTPError, httpx.HTTPError, errors.OfflineModeIsEnabled) as error:
        raise FathomError(f"hf:{repository} could not be fetched: {str(error).splitlines()[0]}") from error
