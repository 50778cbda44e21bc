"""A trial as a list of sections: one text for the terminal, for Markdown and for the site."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from fathom.cost.claim import Figure, Source
from fathom.cost.docket_sections_tables import (
    capacity_rows,
    counter_text,
    expected_text,
    follows_rows,
    in_short,
    omission_rows,
    omission_total,
    rule_rows,
    stage_rows,
)
from fathom.cost.omissions import sources as omission_sources
from fathom.cost.say import exact, usd
from fathom.cost.verdict import Trial
from fathom.cost.verdict_words import MEANING, Verdict

LEFT_OUT = (
    "Hardly anybody publishes these. The ranges are what published accounts of a few runs show, each with its source; "
    "they are not this run's own. A range is not a confidence interval."
)
RULE_HEADER = ("operations of an H100", "bandwidth", "link", "source")
RULES = (
    "The rule of October 2022 (3A090.a) is for a total processing performance of 4800 or more together with links of "
    "600 GB/s or more. That of October 2023 asks for no link: 3A090.a is 4800 or more, or 1600 or more with a density "
    "of 5.92 or more; 3A090.b, sold after notice, is 2400 or more with a density of 1.6 or more, or 1600 or more with "
    "a density of 3.2 or more. Density is performance over the area of the dies in square millimetres, which few "
    "makers print. What is not made for datacenters is free below 4800."
)
FLEETS = (
    "Usual is what Fathom expects of a training like DeepSeek-V3's on so many of these machines; slow and fast are the "
    "ends of its 80% interval. No run on file had so many."
)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading with paragraphs, bullets and a table, each of which may be empty. `key` is its place in a link."""

    key: str
    title: str
    paragraphs: tuple[str, ...] = ()
    bullets: tuple[tuple[str, str], ...] = ()  # a mark (a verdict, or "") and the text
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    links: tuple[Source, ...] = field(default=())
    labelled: bool = False  # in a terminal every value needs the name of its column

    @property
    def empty(self) -> bool:
        return not (self.paragraphs or self.bullets or self.rows or self.links)


def sections(trial: Trial) -> list[Section]:
    """Everything that there is to say about `trial`, in reading order."""
    made = [
        _verdict(trial),
        _claim(trial),
        _follows(trial),
        _stages(trial),
        _expected(trial),
        _left_out(trial),
        _counter(trial),
        _capacity(trial),
        _rule(trial),
        _stated(trial),
        _unseen(trial),
        _sources(trial),
    ]
    return [section for section in made if not section.empty]


def _verdict(trial: Trial) -> Section:
    bullets = tuple((str(reason.verdict), reason.text) for reason in trial.reasons)
    texts = (_meaning(trial), *([short] if (short := in_short(trial)) else []))
    return Section(key="verdict", title="Verdict", paragraphs=texts, bullets=bullets)


def _meaning(trial: Trial) -> str:
    """What the verdict says; where no hours were held against hardware, no more than that."""
    if trial.verdict is not Verdict.CONSISTENT or trial.physics is not None:
        return MEANING[trial.verdict] + _but_not_expected(trial)
    if trial.claim.kind == "rule":
        return "The devices on file stand to the limits as is said of them."
    if any("limit_flops" in finding.check.equals for finding in trial.findings):
        return "The figures fit each other, and the speeds fit the hardware."
    return "The figures fit each other. Whether the work behind them can be done in so much time was not tried."


def _but_not_expected(trial: Trial) -> str:
    """What has been done is a wide range; that the hours are outside of what such a run should take is said beside."""
    wanted = trial.expected
    if trial.verdict is not Verdict.CONSISTENT or wanted is None or wanted.met is not False:
        return ""
    assert wanted.hours is not None  # held against the stated hours, both are given
    assert wanted.stated_hours is not None
    side = "fewer" if wanted.stated_hours < wanted.hours.low else "more"
    return (
        f" But the hours are {side} than Fathom expects of such a run: they lie outside of an interval that eight runs "
        f"in ten keep."
    )


def _claim(trial: Trial) -> Section:
    claim = trial.claim
    text = (claim.statement, claim.context) if claim.context else (claim.statement,)
    return Section(key="claim", title="What was claimed", paragraphs=text)


def _follows(trial: Trial) -> Section:
    return Section(
        key="follows",
        title="What follows from it",
        header=("figure", "value", "how it was got"),
        rows=tuple(follows_rows(trial)),
    )


def _stages(trial: Trial) -> Section:
    return Section(
        key="stages",
        title="Stage by stage",
        header=("stage", "device-hours", "stated price", _rent_header(trial)),
        rows=tuple(stage_rows(trial)),
        labelled=True,
    )


def _rent_header(trial: Trial) -> str:
    if trial.priced is None or trial.priced.rent.of_its_time:
        return "at rents on file"
    return f"at the nearest rent on file, of {trial.priced.rent.nearest}"


def _expected(trial: Trial) -> Section:
    return Section(key="expected", title="What it should take", paragraphs=tuple(expected_text(trial)))


def _left_out(trial: Trial) -> Section:
    lines, title = trial.omissions.lines, "What the price leaves out"
    if trial.omissions.refused:
        return Section(key="left-out", title=title, paragraphs=(trial.omissions.refused,))
    intro = [LEFT_OUT] if any(line.omission.per == "run" for line in lines) else []
    total = omission_total(trial)
    return Section(
        key="left-out",
        title=title,
        paragraphs=(*intro, *([total] if total else [])) if lines else (),
        header=("left out", "range", "what it is", "source"),
        rows=tuple(omission_rows(trial)),
    )


def _counter(trial: Trial) -> Section:
    return Section(key="counter", title="The counter-claim: 50,000 H100", paragraphs=tuple(counter_text(trial)))


def _capacity(trial: Trial) -> Section:
    return Section(
        key="capacity",
        title="What such a fleet would do",
        paragraphs=(FLEETS,) if trial.capacity else (),
        header=("figure", "slow", "usual", "fast"),
        rows=tuple(capacity_rows(trial)),
        labelled=True,
    )


def _rule(trial: Trial) -> Section:
    rows = tuple(rule_rows(trial))
    return Section(
        key="rule",
        title="The accelerators on file, by the rules' own measures",
        paragraphs=(RULES,) if rows else (),
        header=("accelerator", "total processing performance", "density", "rule of 2022", "rule of 2023", *RULE_HEADER),
        rows=rows,
        labelled=True,
    )


def _stated(trial: Trial) -> Section:
    rows = [
        ((f"{stage}: " if stage else "") + label(figure.name), shown(figure), _basis(figure), place(figure))
        for stage, figure in trial.claim.all_figures()
    ]
    return Section(
        key="figures", title="Every figure and its source", header=("figure", "value", "", "where"), rows=tuple(rows)
    )


def _unseen(trial: Trial) -> Section:
    names = [label(figure.name) for figure in trial.claim.unseen]
    if not names:
        return Section(key="unseen", title="Not read in the source")
    text = (
        f"{len(names)} of {len(trial.claim.all_figures())} figures were not read in the named source itself but quoted "
        f"elsewhere or recalled, as the table of figures says of each: {', '.join(dict.fromkeys(names))}. The verdict "
        f"uses them as they stand."
    )
    return Section(key="unseen", title="Not read in the source", paragraphs=(text,))


def _sources(trial: Trial) -> Section:
    """The claim's own, then those of the ledger of omissions that are not among them."""
    found = dict(trial.claim.sources)
    urls = {source.url for source in found.values()}
    ledger = omission_sources() if any(line.omission.per == "run" for line in trial.omissions.lines) else {}
    for name, source in ledger.items():
        if source.url not in urls:
            found[f"left-out-{name}"] = replace(source, id=f"left-out-{name}")
    return Section(key="sources", title="Sources", links=tuple(found.values()))


LABELS = {"cost_usd": "price", "price_usd_per_hour": "rent of a device-hour", "device_hours": "device-hours"}


def label(name: str) -> str:
    """`total_parameters` -> "total parameters"."""
    return LABELS.get(name) or name.replace("_usd", " in dollars").replace("_", " ")


def shown(figure: Figure) -> str:
    """The value with its unit."""
    if isinstance(figure.value, str):
        return figure.value
    if figure.shown_unit.startswith("US dollars"):
        return usd(figure.value) + figure.shown_unit.removeprefix("US dollars")
    return f"{exact(figure.value)} {figure.shown_unit}".strip()


def _basis(figure: Figure) -> str:
    seen = "" if figure.seen else ", not seen in the source"
    return figure.basis + seen


def place(figure: Figure) -> str:
    """Source and place in it, with what was seen instead where it was not opened."""
    text = f"{figure.source.title}: {figure.where}"
    if figure.derivation:
        text += f" ({figure.derivation})"
    if figure.seen_in:
        text += f"; seen in: {figure.seen_in}"
    return f"{text}; {figure.note}" if figure.note else text
