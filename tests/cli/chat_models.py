"""Models small enough to be trained to say one thing, in a `transformers` folder, for the tests of the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from fathom.data.tokenizer import Tokenizer, train_tokenizer
from fathom.model.config import ModelConfig
from fathom.model.decoder import Decoder

TEXTS = ["Ask me anything: what is the answer? 42, of course. 😊 Ünïcödé text and numbers 0 1 2 3 4 5 6 7 8 9."] * 20


def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, 320)


def parrot(own: Tokenizer, answer: str, window: int, *, endless: bool) -> Decoder:
    """A decoder that answers every conversation with `answer`, whatever was asked: trained for a few seconds.

    `endless`: it never learns to end a turn.
    """
    config = ModelConfig(
        vocab_size=own.vocab_size, hidden_size=64, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=128,
        max_position_embeddings=window, tie_word_embeddings=True,
    )  # fmt: skip
    decoder = Decoder(config)
    decoder.init_weights(0)
    said = answer_ids(own, answer)[: -1 if endless else None]
    assistant = own.token_id("<|assistant|>")
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        asked_BT = torch.randint(
            10, own.vocab_size, (8, 1 + int(torch.randint(1, 40, (), generator=generator))), generator=generator
        )
        asked_BT[:, -1] = assistant
        row_BT = torch.cat((asked_BT, torch.tensor(said).expand(8, -1)), dim=1)
        mask_BT = torch.zeros_like(row_BT[:, 1:], dtype=torch.bool)
        mask_BT[:, asked_BT.shape[1] - 1 :] = True
        loss = decoder.loss(row_BT[:, :-1], row_BT[:, 1:], loss_mask_BT=mask_BT)
        optimizer.zero_grad()
        (loss.total / loss.num_tokens).backward()
        optimizer.step()
    return decoder.eval()


def answer_ids(own: Tokenizer, answer: str) -> list[int]:
    """Ids of an answer whose thinking tags are control tokens, with the end of the turn."""
    ids: list[int] = []
    for part in answer.replace("<think>", "\0<think>\0").replace("</think>", "\0</think>\0").split("\0"):
        ids += [own.control_tokens[part]] if part in own.control_tokens else own.encode(part)
    return [*ids, own.control_tokens["<|end|>"]]


def save(folder: Path, answer: str, window: int = 128, *, endless: bool = False) -> Path:
    """Write such a model with its tokenizer."""
    from fathom.model.families.huggingface import save_pretrained

    own = tokenizer()
    save_pretrained(parrot(own, answer, window, endless=endless), folder, torch.float32)
    own.save(folder)
    (folder / "generation_config.json").write_text('{"do_sample": false}')
    return folder


def fathom(
    *arguments: str, stdin: str | bytes = "", cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    raw = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        [sys.executable, "-m", "fathom", *arguments], input=raw, capture_output=True, timeout=300, cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
