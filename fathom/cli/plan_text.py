"""The answer to a plan, as people read it at a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def print_plan(document: dict[str, Any]) -> None:
    """`document` is `Answer.to_dict`. Nothing is read as markup: names and notes are the user's."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if "training" in document:
        _print_training(console, document)
    else:
        console.print(f"{document['model']['name'] or 'A model'}: {_sizes(document['model'])}", style="bold")
    _print_serving(console, document["serving"])
    for note in document["notes"]:
        console.print(f"note: {note}")


def print_list(document: dict[str, Any]) -> None:
    """`document` is `plan_list.known`: what `--model` and `--accelerator` take."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    models = Table("--model", "parameters", "active", "title", box=None, pad_edge=False)
    for row in document["models"]:
        models.add_row(row["name"], _short(row["total_parameters"]), _short(row["active_parameters"]), row["title"])
    devices = Table("--accelerator", "16-bit TFLOP/s", "memory, GB", "of", "title", box=None, pad_edge=False)
    for row in document["accelerators"]:
        rate, memory = _short(row["tflops_16_bit"]), _short(row["memory_gb"])
        devices.add_row(row["name"], rate, memory, row["released"], row["title"])
    console.print(models, "", devices)


def _print_training(console: Console, document: dict[str, Any]) -> None:
    _print_question(console, document)
    if document["feasible"]["fits"]:
        _print_takes(console, document)
        _print_memory(console, document)
        _print_levers(console, document)
        _print_alternative(console, document["compute_optimal"])
    else:
        console.print(f"This cannot run: {document['feasible']['why_not']}. It has no price.", style="bold red")
        console.print(f"compute: {document['flops']['value']:.3g} FLOP ({_components(document)})")
    _print_regulators(console, document["regulators"])


def _sizes(model: dict[str, Any]) -> str:
    return f"{_short(model['total_parameters'])} parameters, {_short(model['active_parameters'])} active"


def _print_question(console: Console, d: dict[str, Any]) -> None:
    model, training, cluster = d["model"], d["training"], d["cluster"]
    assumed = " (as runs of this much work use)" if cluster["count_assumed"] else ""
    console.print(f"{model['name'] or 'A model'}: {_sizes(model)}, {_short(training['tokens'])} tokens of "
                  f"{training['sequence_length']} positions in {training['precision']} on {cluster['count']} x "
                  f"{cluster['accelerator']}{assumed}", style="bold")  # fmt: skip


def _print_takes(console: Console, d: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("takes", "median", "80% interval", "unit", box=None, pad_edge=False)
    table.add_row("compute", f"{d['flops']['value']:.3g}", "", "FLOP")
    for name, title in (("utilisation", "utilisation"), ("device_hours", "device-hours"), ("days", "time"),
                        ("energy_mwh", "energy"), ("co2_tonnes", "CO2"), ("cost_usd", "cost")):  # fmt: skip
        row = d[name]
        table.add_row(title, _short(row["median"]), f"{_short(row['low'])} to {_short(row['high'])}", row["unit"])
    console.print(table)
    console.print(f"FLOPs: {_components(d)}.")
    console.print(f"{d['dominates']}.", style="dim")


def _components(d: dict[str, Any]) -> str:
    """Shares of the FLOPs, the largest first; what is below half a percent is left to the JSON."""
    parts, total = d["flops_by_component"]["parts"], d["flops"]["value"]
    named = sorted(((value / total, name.replace("_", " ")) for name, value in parts.items()), reverse=True)
    return ", ".join(f"{name} {share:.0%}" for share, name in named if share >= 0.005)


def _print_memory(console: Console, d: dict[str, Any]) -> None:
    memory, step = d["memory"], d["step"]
    if not memory["per_device"]:
        console.print(f"Memory: {memory['why']}.")
        return
    parts = {name: value for name, value in memory["per_device"].items() if name != "unit"}
    words = ", ".join(f"{name} {value / 1e9:.1f}" for name, value in parts.items())
    console.print(f"Memory a device: {sum(parts.values()) / 1e9:.1f} of {memory['available']['value'] / 1e9:.0f} GB "
                  f"({words}) as {memory['layout']}; {memory['layouts_that_fit_count']} layouts fit, "
                  f"{memory['ranking']}")  # fmt: skip
    sent = ", ".join(
        f"{kind} {row['bytes_a_device'] / 1e9:.1f} GB" for kind, row in step["communication"].items()
        if row["bytes_a_device"]
    )  # fmt: skip
    console.print(f"Sent by a device in a step of {_short(step['tokens'])} tokens: {sent or 'nothing'}")


def _print_levers(console: Console, d: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("what would change the cost", "from", "to", "US dollars", box=None, pad_edge=False)
    for lever in d["tornado"]:
        low, high = lever["usd"]
        table.add_row(lever["what"], lever["from"], lever["to"], f"{_short(low)} to {_short(high)}")
    console.print(table)


def _print_alternative(console: Console, optimal: dict[str, Any]) -> None:
    size = _short(optimal["parameters"]["value"])
    console.print(f"For the same money a dense model of {size} parameters sees "
                  f"{_short(optimal['tokens']['value'])} tokens: loss {optimal['loss']['value']:.3f}, as planned "
                  f"{optimal['loss_as_planned']['value']:.3f} nats a token. {optimal['caveat']}")  # fmt: skip


def _print_regulators(console: Console, regulators: dict[str, Any]) -> None:
    """The final run's compute, all of it, the guidelines' total with their margin, and each threshold."""
    whole, counted, rough = regulators["all"], regulators["regulators"], regulators["architecture_way"]
    console.print(f"As regulators count: the final run {regulators['final_run']['value']:.3g} FLOP; all in "
                  f"{whole['low']:.3g} to {whole['high']:.3g} FLOP ({whole['method']})")  # fmt: skip
    console.print(f"By the EU's guidelines, with their margin of 30%: {_with_margin(counted)}, without what failed or "
                  f"was tried on other models; {regulators['known']}. N L H U is the same and no second opinion, "
                  f"since a plan's U is computed from it; 6 P D {_with_margin(rough)}")  # fmt: skip
    for flag in counted["thresholds"]:
        state = "passed" if flag["passed"] else "not passed"
        doubt = ", but within the margin of 30%" if flag["within_margin"] else ""
        console.print(f"  {flag['threshold_flop']:.0e} FLOP {state}{doubt}: {flag['rule']}")


def _with_margin(way: dict[str, Any]) -> str:
    return f"{way['value']:.3g} FLOP ({way['low']:.3g} to {way['high']:.3g})"


def _print_serving(console: Console, serving: dict[str, Any] | None) -> None:
    if serving is None:
        return
    if "why" in serving:
        console.print(f"Serving: {serving['why']}")
        return
    published = serving["kv_bytes_per_token_as_published"]
    kept = f" ({_short(published['value'])} in its maker's widths)" if published else ""
    ratio = serving["kv_ratio_to_multi_head"]["value"]
    less = f", {ratio:.3g} times less than plain multi-head attention of its heads" if ratio > 1.005 else ""
    assumed = " (assumed; [serving] precision says another)" if serving["precision_assumed"] else ""
    console.print(f"Served in {serving['precision']}{assumed} by {serving['devices']} x {serving['accelerator']} at "
                  f"{serving['context']} positions: {_short(serving['kv_bytes_per_token']['value'])} bytes of cache a "
                  f"token in 16 bits{kept}{less}")  # fmt: skip
    for phase, title in (("prefill", "prefill"), ("decode", "decoding")):
        limit, rate = serving[f"{phase}_tokens_per_second_limit"], serving[f"{phase}_tokens_per_second"]
        console.print(f"  {title} at most {_short(limit['value'])} tokens/s a device ({limit['method']}); expected "
                      f"{_short(rate['low'])} to {_short(rate['high'])}, {rate['method']}")  # fmt: skip
    read, written = serving["usd_per_million_input_tokens"], serving["usd_per_million_tokens"]
    console.print(f"  {_usd_spread(read)} a million input tokens, {_usd_spread(written)} a million decoded tokens")
    if serving["at_load"]:
        _print_load(console, serving["at_load"])


def _print_load(console: Console, load: dict[str, Any]) -> None:
    """Devices and dollars for the load; its prompts on devices of their own."""
    for phase, part in (("decoded", load), ("input", load["prefill"])):
        devices = part["devices"]
        spread = f"{_short(devices['low'])} to {_short(devices['high'])}"
        how = f"; {part['method']}" if phase == "input" else ""
        console.print(f"For {_short(part['tokens_per_second'])} {phase} tokens/s: {_short(devices['median'])} devices "
                      f"({spread}), {_usd_spread(part['usd_per_million_tokens'])} a million{how}")  # fmt: skip


def _usd_spread(dollars: dict[str, Any]) -> str:
    return f"${dollars['median']:.2f} (${dollars['low']:.2f} to ${dollars['high']:.2f})"


def _short(value: float) -> str:
    """Three digits with a letter for the power of a thousand."""
    for limit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if letter == 'k' else limit):.3g}{letter}"
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
