"""Hold the serving roofline against published services: what share of the limit each reached.

`python -m benchmarks.serving_roofline` prints the table and, on the last line, one JSON document; `--write` keeps that
in `benchmarks/results/serving_roofline.json` and renews the table in `docs/plan.md`. The expected rate of a plan is the
limit times one share for all, so the error is how far that rate lies from the published one.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.pages import put_between_marks
from fathom.cost.hardware import accelerator
from fathom.cost.inference import PREFILL_SHARES, PUBLISHED_SHARES, Service
from fathom.cost.models import known_model

ROOT = Path(__file__).resolve().parent.parent
GPT_FAST = "gpt-fast README, benchmarks: batch 1, prompts of 5 tokens, 200 generated, A100-80GB held to 330 W"
DAY = "DeepSeek-V3/R1 inference system overview, statistics"
LMSYS = "SGLang team, 5 May 2025, https://lmsys.org/blog/2025-05-05-large-scale-ep"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published rate in tokens a second a device; `batch` sequences a device of `context` positions."""

    model: str
    device: str
    devices: int
    batch: float
    context: int
    precision: str
    phase: str
    rate: float
    source: str
    assumed: str = ""

    @property
    def service(self) -> Service:
        return Service(
            architecture=known_model(self.model).architecture, device=accelerator(self.device), devices=self.devices,
            batch=self.batch, context=self.context, precision=self.precision,
        )  # fmt: skip

    @property
    def limit(self) -> float:
        service = self.service
        return service.decode_tokens_per_second if self.phase == "decode" else service.prefill_tokens_per_second

    @property
    def share(self) -> float:
        return self.rate / self.limit

    @property
    def expected(self) -> float:
        return self.limit * (PUBLISHED_SHARES if self.phase == "decode" else PREFILL_SHARES).median

    def to_dict(self) -> dict[str, Any]:
        service = self.service
        return {
            "model": self.model, "served_by": f"{self.devices} x {self.device}", "phase": self.phase,
            "precision": self.precision, "published": round(self.rate, 1), "limit": round(self.limit, 1),
            "bound_by": service.bound_by if self.phase == "decode" else service.prefill_bound_by,
            "share_of_limit": round(self.share, 3), "expected": round(self.expected, 1),
            "error": round(self.expected / self.rate - 1, 3), "assumed": self.assumed, "source": self.source,
        }  # fmt: skip


def _gpt_fast(model: str, devices: int, precision: str, rate: float) -> Published:
    return Published(
        model=model, device="a100", devices=devices, batch=1 / devices, context=105, precision=precision,
        phase="decode", rate=rate / devices, source=GPT_FAST,
    )  # fmt: skip


PUBLISHED = (
    _gpt_fast("llama-2-7b", 1, "bf16", 104.9),
    _gpt_fast("llama-2-7b", 1, "int8", 155.58),
    _gpt_fast("llama-2-70b", 4, "bf16", 38.01),
    _gpt_fast("llama-2-70b", 8, "bf16", 62.50),
    Published(
        model="deepseek-v3", device="h800", devices=144, batch=128, context=4989, precision="fp8", phase="decode",
        rate=14_800 / 8, source=DAY, assumed="128 sequences a device, for which its published kernels are tuned",
    ),
    Published(
        model="deepseek-v3", device="h100", devices=72, batch=256, context=2100, precision="fp8", phase="decode",
        rate=22_300 / 8, source=LMSYS, assumed="256 sequences a device",
    ),
    Published(
        model="deepseek-v3", device="h800", devices=32, batch=1, context=4989, precision="fp8", phase="prefill",
        rate=73_700 * (1 - 0.563) / 8, source=DAY, assumed="the 56.3% of input found in the cache cost nothing",
    ),
    Published(
        model="deepseek-v3", device="h100", devices=32, batch=1, context=2000, precision="fp8", phase="prefill",
        rate=52_300 / 8, source=LMSYS,
    ),
    Published(
        model="deepseek-v3", device="h100", devices=32, batch=1, context=4096, precision="fp8", phase="prefill",
        rate=50_302 / 8, source=LMSYS + ", 4K prompts, perfect balance of experts simulated",
    ),
)  # fmt: skip


def table() -> list[str]:
    lines = [
        "| service | phase | tokens/s a device | roofline | bound by | share reached | plan expects | error |",
        "| --- | --- | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    for one in PUBLISHED:
        row = one.to_dict()
        lines.append(
            f"| {row['model']} {row['precision']}, {row['served_by']} | {row['phase']} | {row['published']:,.4g} "
            f"| {row['limit']:,.4g} | {row['bound_by'].replace('_', ' ')} | {row['share_of_limit']:.0%} "
            f"| {row['expected']:,.4g} | {row['error']:+.0%} |"
        )
    sources = dict.fromkeys(one.source + (f" (assumed: {one.assumed})" if one.assumed else "") for one in PUBLISHED)
    return [*lines, "", "Sources: " + "; ".join(sources) + "."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the result and renew the table in docs/plan.md")
    arguments = parser.parse_args()
    document = {"services": [one.to_dict() for one in PUBLISHED]}
    print("\n".join(table()))
    if arguments.write:
        put_between_marks(ROOT / "docs" / "plan.md", {"serving": table()})
        (ROOT / "benchmarks/results/serving_roofline.json").write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
