"""Fit the efficiency model and judge it on developers that it has not seen. NumPy, used by the benchmark only.

A mixed model: log utilisation = features x coefficients + one shift a developer + one error a run. The shift is why the
runs of one developer do not count as so many independent ones. Coefficients have weak normal priors around "no
effect", except fp8, of which too few runs are published. The errors are skewed (some runs go badly wrong, none goes
impossibly well), so the median and the interval are taken from the errors themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fathom.cost.efficiency import (
    FEATURES,
    MIDDLE_UTILISATION,
    REFERENCE_HOURS,
    bounded,
    features,
    interval_ends,
)
from fathom.cost.run import Run

# Standard deviation of the priors on the logarithm of utilisation; the intercept is free.
PRIOR_SD = 1.4
# Training in fp8 on a Hopper: 75% faster end to end than bf16, and 37% faster than the vendor's own fp8 (FP8-LM,
# arXiv:2310.18313, abstract), so the usual gain is 1.75 / 1.37; with that much doubt.
FP8_PRIOR_MEAN, FP8_PRIOR_SD = float(np.log(1.75 / 1.37)), 0.15
# The effects were chosen on the runs that they are judged by, so new runs miss a little more often.
CHOICE_WIDENING = 1.05
GRID = np.arange(0.05, 0.61, 0.05)


@dataclass(frozen=True)
class Row:
    """One published run: what is known of it, its stated hours, who made it."""

    claim: str
    developer: str
    family: str
    run: Run
    device_hours: float
    fit: bool = True  # False: shown and scored, not learned from

    @property
    def log_utilisation(self) -> float:
        return float(np.log(self.run.utilisation(self.device_hours)))


@dataclass(frozen=True)
class Fit:
    """`median_error`, `error_low` and `error_high` are of log utilisation; the ends are relative to the median."""

    coefficients: np.ndarray
    covariance: np.ndarray
    between_sd: float
    within_sd: float
    median_error: float
    error_low: float
    error_high: float
    count_model: list[float]
    developers: int
    effects: tuple[str, ...] = FEATURES

    @property
    def log_sd(self) -> float:
        return float(np.hypot(self.between_sd, self.within_sd))

    def predict(self, run: Run) -> tuple[float, float, float]:
        """Utilisation of a run of an unseen developer: 10%, median, 90%."""
        x = np.array(features(run, self.count_model))[_columns(self.effects)]
        middle = float(x @ self.coefficients) + self.median_error
        low, high = interval_ends(self.error_low, self.error_high, self.log_sd, float(x @ self.covariance @ x))
        return bounded(middle, low, high)


def fit(
    rows: Sequence[Row], effects: tuple[str, ...] = FEATURES, prior_sd: float = PRIOR_SD, grid: np.ndarray = GRID
) -> Fit:
    """Restricted maximum likelihood over a grid of the two standard deviations."""
    rows = [row for row in rows if row.fit]
    count_model = fit_count_model(rows)
    x = np.array([features(row.run, count_model) for row in rows])[:, _columns(effects)]
    y = np.array([row.log_utilisation for row in rows])
    names = np.array([row.developer for row in rows])
    sums, priors = _sums(x, y, names), _priors(effects, prior_sd)
    best = max(
        ((*_solve(sums, priors, between, within), between, within) for between in grid for within in grid),
        key=lambda solved: solved[0],
    )
    low, middle, high = _error_quantiles(y - x @ best[1], names, len(effects))
    developers = len(set(names))
    return Fit(best[1], best[2], float(best[3]), float(best[4]), middle, low, high, count_model, developers, effects)


def _columns(effects: tuple[str, ...]) -> list[int]:
    return [FEATURES.index(name) for name in effects]


def _error_quantiles(errors: np.ndarray, names: np.ndarray, effects: int) -> tuple[float, float, float]:
    """10% below the median, the median, 90% above it. A developer's weight grows as the root of its runs.

    Errors of the rows fitted are smaller than those of new ones by the usual factor of the degrees of freedom, with
    developers for observations, and the ends are widened by it.
    """
    weights = np.array([1 / np.sqrt(np.sum(names == name)) for name in names])
    order = np.argsort(errors)
    shares = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    low, middle, high = (float(np.interp(share, shares, errors[order])) for share in (0.1, 0.5, 0.9))
    developers = len(set(names))
    wider = float(np.sqrt(developers / (developers - effects))) * CHOICE_WIDENING
    return (low - middle) * wider, middle, (high - middle) * wider


@dataclass(frozen=True)
class _Sums:
    """All that the likelihood needs of the data, so that a grid of deviations costs next to nothing."""

    xx: np.ndarray
    xy: np.ndarray
    yy: float
    counts: np.ndarray  # runs of each developer
    x: np.ndarray  # sums over each developer
    y: np.ndarray


def _sums(x: np.ndarray, y: np.ndarray, names: np.ndarray) -> _Sums:
    groups = [names == name for name in sorted(set(names))]
    return _Sums(
        x.T @ x,
        x.T @ y,
        float(y @ y),
        np.array([group.sum() for group in groups]),
        np.array([x[group].sum(axis=0) for group in groups]),
        np.array([y[group].sum() for group in groups]),
    )


def _solve(
    sums: _Sums, priors: tuple[np.ndarray, np.ndarray], between: float, within: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """Generalised least squares with the priors; the restricted log-likelihood, coefficients and their covariance.

    The variance of a developer with n runs is within^2 I + between^2 J, whose inverse is (I - c J) / within^2 with
    c = between^2 / (within^2 + n between^2), and whose determinant is within^(2n-2) (within^2 + n between^2).
    """
    precision, mean = priors
    shrink = between**2 / (within**2 + sums.counts * between**2)
    xx = (sums.xx - (sums.x * shrink[:, None]).T @ sums.x) / within**2
    xy = (sums.xy - sums.x.T @ (shrink * sums.y)) / within**2
    yy = (sums.yy - shrink @ sums.y**2) / within**2
    curvature = xx + precision
    covariance = np.linalg.inv(curvature)
    coefficients = covariance @ (xy + precision @ mean)
    determinant = np.sum((sums.counts - 1) * np.log(within**2) + np.log(within**2 + sums.counts * between**2))
    misfit = yy - 2 * xy @ coefficients + coefficients @ xx @ coefficients
    shift = coefficients - mean
    likelihood = -0.5 * (determinant + np.linalg.slogdet(curvature)[1] + misfit + shift @ precision @ shift)
    return float(likelihood), coefficients, covariance


def _priors(effects: tuple[str, ...], prior_sd: float) -> tuple[np.ndarray, np.ndarray]:
    sd = np.array([1e3 if n == "one" else FP8_PRIOR_SD if n == "fp8" else prior_sd for n in effects])
    mean = np.array([FP8_PRIOR_MEAN if n == "fp8" else 0.0 for n in effects])
    return np.diag(1 / sd**2), mean


def fit_count_model(rows: Iterable[Row]) -> list[float]:
    """log devices = intercept + slope x log(work in device-hours / REFERENCE_HOURS), over the runs that state them."""
    known = [row.run for row in rows if row.run.count]
    work = np.log([run.device_hours(MIDDLE_UTILISATION) / REFERENCE_HOURS for run in known])
    design = np.column_stack([np.ones(len(known)), work])
    solution = np.linalg.lstsq(design, np.log([run.count for run in known]), rcond=None)[0]
    return [float(value) for value in solution]


@dataclass(frozen=True)
class HeldOut:
    """A run predicted by a model that saw nothing of its group: utilisation at 10%, median, 90%."""

    row: Row
    predicted: tuple[float, float, float]

    @property
    def hours(self) -> tuple[float, float, float]:
        low, middle, high = (self.row.run.device_hours(share) for share in reversed(self.predicted))
        return low, middle, high

    @property
    def relative_error(self) -> float:
        return self.hours[1] / self.row.device_hours - 1

    @property
    def covered(self) -> bool:
        low, _, high = self.hours
        return low <= self.row.device_hours <= high


def leave_one_group_out(rows: Sequence[Row], group: str = "developer") -> list[HeldOut]:
    """Predict every row from a fit without its whole group (`developer` or `family`)."""
    held: list[HeldOut] = []
    for name in sorted({getattr(row, group) for row in rows}):
        model = fit([row for row in rows if getattr(row, group) != name])
        for row in rows:
            if getattr(row, group) == name:
                held.append(HeldOut(row, model.predict(row.run)))
    return held


def score(held: Sequence[HeldOut]) -> dict[str, float]:
    """Median absolute relative error of hours, coverage of the 80% interval, its median width (high over low)."""
    errors = [abs(one.relative_error) for one in held]
    return {
        "runs": len(held),
        "median_absolute_error": float(np.median(errors)),
        "coverage_of_80_percent": float(np.mean([one.covered for one in held])),
        "median_high_over_low": float(np.median([one.hours[2] / one.hours[0] for one in held])),
    }
