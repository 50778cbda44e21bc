"""`python -m benchmarks.decoding`: tokens written per second by Fathom and by `transformers`, on the same weights.

Two models: SmolLM2-135M-Instruct from its GGUF file, and a small DeepSeek-style mixture with random weights. Both peers
answer the same prompt in turn, several times; the table gives medians, the document every run. The roofline is the rate
if reading every weight once a token were all there is: this machine's measured read bandwidth over the weights' bytes.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.machine import machine
from fathom.infer.engine import Engine
from fathom.model.config import ModelConfig
from fathom.model.decoder import Decoder

NEW_TOKENS = 32
RESULT = Path(__file__).parent / "results" / "decoding.json"
MIXTURE = ModelConfig(
    vocab_size=8192, hidden_size=384, num_layers=6, num_heads=6, attention="latent", kv_lora_rank=128,
    qk_nope_head_dim=64, qk_rope_head_dim=32, v_head_dim=64, intermediate_size=1024, num_experts=16,
    num_experts_per_token=4, num_shared_experts=1, moe_intermediate_size=192, first_dense_layers=1,
)  # fmt: skip


def read_bandwidth() -> float:
    """Bytes per second at which this machine's cores read memory: the best of ten sums over 512 MB."""
    block = torch.ones(1 << 26, dtype=torch.int64)
    best = 0.0
    for _ in range(10):
        start = time.perf_counter()
        block.sum()
        best = max(best, block.nbytes / (time.perf_counter() - start))
    return best


def peer(decoder: Decoder, dtype: torch.dtype) -> Any:
    """The same weights as a model of `transformers`."""
    import tempfile

    from transformers import AutoModelForCausalLM

    from fathom.model.families.huggingface import save_pretrained

    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(decoder, folder, torch.float32)
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def rate_of_peer(model: Any, prompts: list[list[int]]) -> float:
    """Tokens written per second over all rows, the prompt's reading subtracted as the time of one token."""

    def run(count: int) -> float:
        start = time.perf_counter()
        with torch.inference_mode():
            model.generate(
                torch.tensor(prompts), max_new_tokens=count, min_new_tokens=count, do_sample=False, pad_token_id=0,
                attention_mask=torch.ones(len(prompts), len(prompts[0]), dtype=torch.long),
            )  # fmt: skip
        return time.perf_counter() - start

    return (NEW_TOKENS - 1) * len(prompts) / (run(NEW_TOKENS) - run(1))


def rate_of_engine(engine: Engine, prompts: list[list[int]]) -> float:
    """The same count for Fathom, by the same subtraction."""

    def run(count: int) -> float:
        start = time.perf_counter()
        engine.generate(prompts, max_new_tokens=count)
        return time.perf_counter() - start

    return (NEW_TOKENS - 1) * len(prompts) / (run(NEW_TOKENS) - run(1))


def weight_bytes(decoder: Decoder, bytes_per_weight: float) -> float:
    """Bytes that one token has to read: every matrix once, of the experts only those that it uses."""
    config = decoder.config
    total = sum(p.numel() for name, p in decoder.named_parameters() if not name.startswith("mtp."))
    if not config.tie_word_embeddings:
        total -= decoder.embedding.weight.numel()  # a look-up reads one row
    idle = config.num_experts - config.num_experts_per_token
    total -= config.num_moe_layers * idle * 3 * config.hidden_size * config.moe_intermediate_size
    return total * bytes_per_weight


def measure(name: str, decoder: Decoder, rows: int, repeats: int, bandwidth: float) -> dict[str, Any]:
    """Fathom in fp32 and with held weights, `transformers` in fp32 and bf16, in turn, `repeats` times."""
    prompts = torch.randint(
        5, decoder.config.vocab_size, (rows, 32), generator=torch.Generator().manual_seed(0)
    ).tolist()
    fp32, held = Engine(decoder), Engine(decoder, dtype=torch.bfloat16)
    peers = {dtype: peer(decoder, dtype) for dtype in (torch.float32, torch.bfloat16)}
    runs: dict[str, Callable[[], float]] = {
        "fathom": lambda: rate_of_engine(held, prompts),
        "transformers_fp32": lambda: rate_of_peer(peers[torch.float32], prompts),
        "fathom_fp32": lambda: rate_of_engine(fp32, prompts),
        "transformers_bf16": lambda: rate_of_peer(peers[torch.bfloat16], prompts),
    }
    rates: dict[str, list[float]] = {key: [] for key in runs}
    for repeat in range(repeats + 1):
        for key, run in runs.items():
            rate = run()
            click.echo(f"{name}, {rows} rows, round {repeat}: {key} {rate:.1f} tokens/s", err=True)
            if repeat:  # the first round warms up
                rates[key].append(rate)
    medians = {key: statistics.median(values) for key, values in rates.items()}
    best_peer = max(medians["transformers_fp32"], medians["transformers_bf16"])
    return {
        "model": name, "rows": rows, "tokens_per_second": medians, "all_runs": rates,
        "ratio_to_best_peer": medians["fathom"] / best_peer,
        "ratio_fp32": medians["fathom_fp32"] / medians["transformers_fp32"],
        "roofline_fp32_tokens_per_second": bandwidth / weight_bytes(decoder, 4) if rows == 1 else None,
        "roofline_bf16_tokens_per_second": bandwidth / weight_bytes(decoder, 2) if rows == 1 else None,
    }  # fmt: skip


def models() -> dict[str, Decoder]:
    """What is measured, by name."""
    from fathom.cli.models import open_model

    mixture = Decoder(MIXTURE)
    mixture.init_weights(0)
    with torch.no_grad():
        for parameter in mixture.parameters():
            if parameter.ndim > 1 and not parameter.any():
                parameter.normal_(0.0, 0.02)
    return {"smollm2": open_model("smollm2").decoder, "mixture": mixture}


@click.command()
@click.option("--repeats", default=3, show_default=True)
@click.option("--model", "names", multiple=True, help="Only these of: smollm2, mixture.")
@click.option("--rows", multiple=True, type=int, default=(1, 8), show_default=True, help="Batch sizes.")
def main(repeats: int, names: tuple[str, ...], rows: tuple[int, ...]) -> None:
    """Print a table, and on the last line one JSON document."""
    facts, bandwidth = machine(), read_bandwidth()
    results = [
        measure(name, decoder, count, repeats, bandwidth)
        for name, decoder in models().items()
        for count in rows
        if not names or name in names
    ]
    click.echo(
        f"{'model':<10}{'rows':>5}{'fathom':>10}{'fp32':>10}{'peer fp32':>11}{'peer bf16':>11}{'ratio':>8}   tokens/s"
    )
    for row in results:
        rate = row["tokens_per_second"]
        click.echo(
            f"{row['model']:<10}{row['rows']:>5}{rate['fathom']:>10.1f}{rate['fathom_fp32']:>10.1f}"
            f"{rate['transformers_fp32']:>11.1f}{rate['transformers_bf16']:>11.1f}{row['ratio_to_best_peer']:>8.2f}"
        )
    document = {"benchmark": "decoding", "machine": facts, "read_bytes_per_second": bandwidth, "results": results}
    if not names:
        RESULT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    click.echo(json.dumps(document))


if __name__ == "__main__":
    main()
