"""Small texts and one prepared directory, made once for this folder."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from fathom.data.manifest import prepare
from fathom.data.records import Manifest
from fathom.data.tokenizer import Tokenizer, train_tokenizer

TEXT = """
river stone window garden letter winter silver morning bridge market candle forest harbor island
kitchen ladder meadow needle orchard pocket quarry ribbon saddle timber valley whistle yellow anchor
basket copper
"""
WORDS = TEXT.split()


def paragraphs(seed: int, words: int = 60) -> str:
    """Text that repeats nothing of another seed's: near-duplicate removal leaves it alone."""
    generator = random.Random(seed)
    chosen = [generator.choice(WORDS) + str(generator.randrange(1000)) for _ in range(words)]
    return "\n".join(" ".join(["the", *chosen[at + 1 : at + 10]]) for at in range(0, words, 10))


@pytest.fixture(scope="session")
def write_jsonl() -> Callable[[Path, list], Path]:
    def write(path: Path, rows: list) -> Path:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A small tokenizer of our own."""
    return train_tokenizer([paragraphs(seed) for seed in range(20)], 400)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> tuple[Path, Manifest]:
    """Two text sources and one of conversations, prepared with `tokenizer`."""
    folder = tmp_path_factory.mktemp("sources")
    for name, first, count in (("alpha", 0, 40), ("beta", 100, 25)):
        lines = [
            json.dumps({"text": paragraphs(seed, 20 + 7 * (seed % 9)), "license": "CC0-1.0"})
            for seed in range(first, first + count)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), "utf-8")
    talks = [
        {
            "messages": [
                {"role": "user", "content": paragraphs(seed, 12)},
                {"role": "assistant", "content": f"<think>{seed}+1</think>{seed + 1}"},
            ]
        }
        for seed in range(300, 330)
    ]
    (folder / "talks.jsonl").write_text("\n".join(map(json.dumps, talks)), "utf-8")
    directory = tmp_path_factory.mktemp("prepared") / "data"
    manifest = prepare([folder], directory, tokenizer=tokenizer, held_out_fraction=0.1)
    return directory, manifest
