"""How the claims of the design fare: paired differences over seeds and tasks, with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from scipy.stats import t as student

from benchmarks.family.ladder_report import spread
from benchmarks.family.members import CLAIMS, MEMBERS, QUESTIONS, Claim

Runs = dict[str, dict[int, dict[str, Any]]]

ALIKE = 5.0  # members are alike whose energies differ by no more per cent
LEAST = 6  # pairs without which nothing is decided

HOW = """A gain is how much better the first member is, paired over seeds: by how many per cent the energy of the other is above its own
(of recall: by how many points). In brackets the 95 % interval by Student's t. Over all tasks, every pair of a seed and a task is one
observation: such an interval speaks of these {n_tasks} test slides, not of slides in general. *Confirmed* and **contradicted**: it lies
on one side of zero. *Alike*: it lies within ±{alike:g} %, and is not on one side of zero where the members were reported to differ. So
whichever is better, the difference is small. *Open*: none of these, or fewer than {least} pairs.
"""


@dataclass(frozen=True)
class Gain:
    """A mean gain with its interval; NaN ends for fewer than two observations."""

    mean: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, claim: Claim, values: Sequence[float] | np.ndarray) -> Gain:
        """That of a claim's differences: of recall in points, of energies in per cent."""
        return cls._of(values, float if claim.score == "recall30" else np.expm1)

    @classmethod
    def of_ratios(cls, logs: Sequence[float] | np.ndarray) -> Gain:
        """That of logarithms of ratios, in per cent."""
        return cls._of(logs, np.expm1)

    @classmethod
    def _of(cls, values: Sequence[float] | np.ndarray, share: Callable[[float], Any]) -> Gain:
        found = np.asarray(values, dtype=float)
        n, mean = len(found), float(np.mean(found)) if len(found) else float("nan")
        half = float(student.ppf(0.975, n - 1) * found.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
        return cls(*(100 * float(share(x)) for x in (mean, mean - half, mean + half)), n=n)

    def __str__(self) -> str:
        if not self.n:
            return "not measured"
        return f"{self.mean:+.1f}" + (f" [{self.low:+.1f}, {self.high:+.1f}]" if self.n > 1 else " (one pair)")

    def verdict(self, claim: Claim) -> str:
        """Whether the claim is decided."""
        if self.n < LEAST:
            return "open" if self.n else "not measured"
        differs = not self.low <= 0 <= self.high
        if (claim.alike or not differs) and max(abs(self.low), abs(self.high)) <= ALIKE:
            return "alike"
        if not differs:
            return "open"
        if claim.alike:
            return f"**contradicted**: {'better' if self.low > 0 else 'worse'}"
        return "confirmed" if self.low > 0 else "**contradicted**"


def differences(claim: Claim, runs: Runs) -> np.ndarray:
    """How much better the better one is, seed by seed: logarithm of the ratio of energies, or difference of recall."""
    first, second = runs.get(claim.better, {}), runs.get(claim.worse, {})
    pairs = [(first[s][claim.score], second[s][claim.score]) for s in sorted(set(first) & set(second))]
    if claim.score == "recall30":
        return np.array([a - b for a, b in pairs])
    return np.array([np.log(b / a) for a, b in pairs])


def pooled(claim: Claim, results: Iterable[Runs]) -> Gain:
    """The gain over all tasks and seeds."""
    return Gain.of(claim, np.concatenate([differences(claim, runs) for runs in results]))


def rows(claims: Sequence[Claim], results: dict[str, Runs], *, judged: bool) -> list[str]:
    """One row per claim."""
    columns = ["claim", *(["reported"] if judged else []), *results, "all", *(["outcome"] if judged else [])]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for claim in claims:
        gain = pooled(claim, results.values())
        reported = f"{MEMBERS[claim.better].reported} against {MEMBERS[claim.worse].reported}"
        cells = [claim.text, *([reported] if judged and claim.score != "recall30" else ["–"] * judged)]
        cells += [str(Gain.of(claim, differences(claim, runs))) for runs in results.values()]
        cells += [f"{gain}, {gain.n} pairs" if gain.n else "–", *([gain.verdict(claim)] if judged else [])]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def agreement(results: dict[str, Runs]) -> list[str]:
    """Every claim on every task, what else was asked, members against V1, and the correlation of the orders."""
    lines = ["## The claims", "", HOW.format(n_tasks=len(results), alike=ALIKE, least=LEAST)]
    lines += rows(CLAIMS, results, judged=True)
    lines += ["What the design does not say:", "", *rows(QUESTIONS, results, judged=False)]
    lines += ["Gain of every member over V1:", "", *rows(_against_v1(results), results, judged=False)]
    for task, runs in results.items():
        names = [n for n, m in MEMBERS.items() if m.energy is not None and m.embedding == "own" and n in runs]
        if len(names) > 2:
            means = [np.mean([run["e_geo_gated"] for run in runs[n].values()]) for n in names]
            rho = float(spearmanr([MEMBERS[n].energy for n in names], means).statistic)
            lines.append(
                f"- {task}: Spearman correlation of the reported and the measured order of {len(names)} members {rho:.2f}."
            )
    return [*lines, ""]


def in_short(results: dict[str, Runs]) -> str:
    """Energies of all members, and what becomes of the claims: the part of ``docs/family.md``."""
    lines = [f"| member | {' | '.join(results)} |", "|---" * (len(results) + 1) + "|"]
    for name, member in MEMBERS.items():
        found = [np.array([run["e_geo_gated"] for run in runs.get(name, {}).values()]) for runs in results.values()]
        if member.trained and any(map(len, found)):
            cells = [f"{spread(own)} ({len(own)})" if len(own) else "–" for own in found]
            lines.append(f"| {member.label} | {' | '.join(cells)} |")
    lines += ["", HOW.format(n_tasks=len(results), alike=ALIKE, least=LEAST)]
    lines += ["| claim | gain | pairs | outcome |", "|---" * 4 + "|"]
    for claim in CLAIMS:
        gain = pooled(claim, results.values())
        lines.append(f"| {claim.text} | {gain if gain.n else '–'} | {gain.n} | {gain.verdict(claim)} |")
    return "\n".join(lines)


def _against_v1(results: dict[str, Runs]) -> list[Claim]:
    measured = {name for runs in results.values() for name in runs} - {"v1", "oracle"}
    return [Claim(member.label, name, "v1") for name, member in MEMBERS.items() if name in measured]
