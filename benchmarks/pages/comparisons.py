"""ipar beside every other method: differences, task by task and seed by seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.methods.labels import LABELS, PEERS

Results = dict[str, dict[str, list[dict[str, Any]]]]

# key: title, and whether more is better; None, where one is best
COLUMNS: dict[str, tuple[str, bool | None]] = {
    "luna_spearman": ("LUNA Spearman", True),
    "knn_hit_20_ratio": ("kNN hit@20 ÷ chance", True),
    "contact_f1_1": ("contact F1@1 %", True),
    "contact_f1_10": ("contact F1@10 %", True),
    "procrustes_rmse": ("Procrustes RMSE", False),
    "stress1": ("Stress-1", False),
    "trustworthiness_20": ("trustw.@20", True),
    "coverage": ("coverage", True),
    "evenness_ratio": ("evenness ÷ truth", None),
    "e_geo": ("E_geo", False),
}
LEAD, LEAD_TASKS = 0.05, ("brain7", "brain7b", "embryo", "embryo_b")  # of the first score of the goal
RANKED = {"brain7": 0.4}  # of the uncertainty: its rank correlation with the error
CERTAIN = 0.6  # of the uncertainty: median error of the certain half over that of all
GOAL = ("luna_spearman", "knn_hit_20_ratio", "contact_f1_1", "procrustes_rmse", "e_geo")
PLAIN = {"ipar_plain", "ipar_no_flow_plain", "iga_plain"}  # of principal components, all genes alike
OURS = {"ipar", "ipar_no_flow", "ipar_default", "ipar_fast", "iga", *PLAIN}
REFERENCES = {"within_slide_mlp", "permuted"}  # they read the truth: never in bold, never compared


def glance(results: Results) -> str:
    """Every task in a line: ipar minus the best other method of each score, control or peer."""
    seeds = [f"{task} {len(shown['ipar'])}" for task, shown in with_ipar(results).items()]
    lines = [
        "## At a glance",
        "",
        "ipar less the best of all controls and published peers of each score, mean ± sd over the seeds that both have (in bold",
        "where ipar is ahead), and less the reference that learns from four fifths of the scored slide itself. Where ipar refuses",
        "a tissue, being ahead means little: nothing is good there.",
        "",
        *_margins(results, "ipar"),
        "",
        f"Seeds of ipar so far: {', '.join(seeds)}.",
    ]
    return "\n".join(lines) + "\n"


def glance_at_iga(results: Results) -> str:
    """The same of IGA; nothing, where it has not been measured."""
    if not any("iga" in shown for shown in with_ipar(results).values()):
        return ""
    lines = [
        "The same of IGA, ipar's generative model (`ipar.tl.fit_iga` and `sample_coords` with their defaults), less the best of",
        "all controls and peers. It is not the default, and no aim is set for it:",
        "",
        *_margins(results, "iga"),
    ]
    return "\n".join(lines) + "\n"


def _margins(results: Results, ours: str) -> list[str]:
    """A table of one of our methods minus the best other method of each score, a line a task."""
    titles = [COLUMNS[key][0] for key in GOAL]
    lines = [
        "| task | can be localised | ahead in | " + " | ".join(titles) + " | Spearman − within-slide |",
        "|---" * (len(GOAL) + 4) + "|",
    ]
    for task, shown in with_ipar(results).items():
        word = {True: "yes", False: "no", None: "undecided"}[localisable(shown["ipar"])]
        if ours not in shown:
            continue
        margins = [margin_of(shown, key, ours) for key in GOAL]
        cells = [margin.text() if margin else "–" for margin in margins]
        past = past_reference(shown, ours)
        ahead = f"{sum(bool(margin and margin.ahead) for margin in margins)} of {len(cells)}"
        lines.append(f"| {task} | {word} | {' | '.join([ahead, *cells])} | {'–' if past is None else f'{past:+.3f}'} |")
    return lines


def aims(results: Results) -> str:
    """What ipar aims at on tissues that can be localised, and where it is short of that."""
    lines = [
        "Aimed at, wherever a tissue can be localised: to be ahead in all five scores; in LUNA's Spearman by at least "
        f"{LEAD:.2f} on {', '.join(LEAD_TASKS)}; and past the reference, which is no ceiling. Of the uncertainty: a rank "
        f"correlation with a cell's error of at least {' and '.join(f'{aim:.2f} on {task}' for task, aim in RANKED.items())}, and "
        f"in the more certain half of the cells at most {CERTAIN:.2f} times the median error of all (in brackets what that half would have, "
        "were the cells in the order of their true errors, below which no uncertainty comes). Reached of that:",
        "",
    ]
    for task, shown in with_ipar(results).items():
        if not localisable(shown["ipar"]):
            continue
        margins = {key: margin_of(shown, key) for key in GOAL}
        behind = [COLUMNS[key][0] for key, margin in margins.items() if margin and not margin.ahead]
        said = [f"behind in {' and '.join(behind)}" if behind else "ahead in all five scores"]
        first, past = margins[GOAL[0]], past_reference(shown)
        if task in LEAD_TASKS and first:
            lead = float(first.gaps.mean())
            said += [f"Spearman {lead:+.3f}, {LEAD:.2f} {'' if round(lead, 6) >= LEAD else 'not '}reached"]
        if past is not None:
            said += [f"{'' if past > 0 else 'not '}past the reference"]
        said += _doubt(task, shown["ipar"])
        lines.append(f"- {task}: {'; '.join(said)}.")
    return "\n".join(lines) + "\n"


def _doubt(task: str, runs: list[dict[str, Any]]) -> list[str]:
    """What the uncertainty of ipar reaches of its aims; nothing, where no run has kept it."""
    kept = [run for run in runs if "certain_half_median_bound" in run["scores"]]
    if not kept:
        return []
    ranked, half, bound = (
        float(values(kept, key).mean())
        for key in ("uncertainty_spearman", "certain_half_median", "certain_half_median_bound")
    )
    aimed = f", {'' if round(ranked, 6) >= RANKED[task] else 'not '}reached" if task in RANKED else ""
    share = f"certain half {half:.2f}, {'' if round(half, 6) <= CERTAIN else 'not '}reached ({bound:.2f})"
    few = f" ({len(kept)} of {len(runs)} seeds)" if len(kept) < len(runs) else ""
    return [f"rank correlation of uncertainty and error {ranked:.2f}{aimed}; {share}{few}"]


def with_ipar(results: Results) -> Results:
    """What was measured of every task that ipar was run on, without methods that do not apply."""
    applied = {task: applicable(by_method) for task, by_method in results.items()}
    return {task: shown for task, shown in applied.items() if "ipar" in shown}


def applicable(by_method: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """The methods of a task that its data have what it takes for."""
    return {method: runs for method, runs in by_method.items() if not any("skipped" in run for run in runs)}


def localisable(ours: list[dict[str, Any]]) -> bool | None:
    """The verdict of ipar, None where seeds differ."""
    verdicts = {bool(run["localisability"]["localisable"]) for run in ours if "localisability" in run}
    return None if len(verdicts) == 2 else True in verdicts


def past_reference(shown: dict[str, list[dict[str, Any]]], ours: str = "ipar") -> float | None:
    """Spearman less that of the reference, which has learned from the scored slide."""
    if "within_slide_mlp" not in shown:
        return None
    return float(values(shown[ours], GOAL[0]).mean() - values(shown["within_slide_mlp"], GOAL[0]).mean())


@dataclass(frozen=True)
class Margin:
    """One of our methods less another one in a score, seed by seed."""

    other: str
    gaps: np.ndarray
    more: bool

    @property
    def level(self) -> bool:
        """Whether the mean lies within one standard deviation of a tie."""
        return len(self.gaps) > 1 and bool(abs(self.gaps.mean()) <= self.gaps.std(ddof=1))

    @property
    def ahead(self) -> bool:
        """Whether ours is better in the mean, by more than the rounding of a tie."""
        return bool((self.gaps.mean() if self.more else -self.gaps.mean()) > 1e-9)

    def cell(self) -> str:
        """Mean ± sd, bold where ours is ahead."""
        gap = mean_sd(self.gaps, form="+.3f")
        return f"**{gap}**" if self.ahead else gap

    def text(self) -> str:
        """The cell, and of which method."""
        return f"{self.cell()} ({short(self.other)})"


def margin_of(shown: dict[str, list[dict[str, Any]]], key: str, ours: str = "ipar") -> Margin | None:
    """One of our methods less the best other one of a score; nothing, where there is no other."""
    others = {m: values(runs, key).mean() for m, runs in shown.items() if m not in REFERENCES | OURS}
    if not others:
        return None
    more = bool(COLUMNS[key][1])
    best = (max if more else min)(others, key=lambda m: others[m])
    gaps = gaps_of(shown[ours], shown[best], key)
    if not len(gaps):  # no seed in common
        gaps = values(shown[ours], key).mean(keepdims=True) - others[best]
    return Margin(best, gaps, more)


def label(method: str) -> str:
    """What a method is called on the page."""
    return (LABELS | PEERS).get(method, method)


def short(method: str) -> str:
    """The same without what is in brackets or behind a comma."""
    return label(method).split(" (")[0].split(",")[0]


def values(runs: list[dict[str, Any]], key: str) -> np.ndarray:
    """A score of every run."""
    return np.array([run["scores"][key] for run in runs], dtype=float)


def kept(runs: list[dict[str, Any]], key: str) -> np.ndarray:
    """A score of every run that has it."""
    return values([run for run in runs if key in run["scores"]], key)


def mean_sd(found: np.ndarray, *, form: str = ".3f") -> str:
    """Mean ± sd; of one run the value alone, which has none."""
    text = f"{round(found.mean(), 6) + 0.0:{form}}"  # no negative zero
    return f"{text} ± {found.std(ddof=1):.3f}" if len(found) > 1 else text


def cell(found: np.ndarray, *, bold: bool) -> str:
    """Mean ± sd, as a cell of a table; a dash, where nothing has been measured."""
    text = mean_sd(found) if len(found) else "–"
    return f"**{text}**" if bold else text


def paired(shown: dict[str, list[dict[str, Any]]]) -> str:
    """Ipar minus every control and peer, seed by seed."""
    lines = ["ipar minus control or peer, paired over seeds (in bold where ipar is ahead):", ""]
    lines += ["| method | " + " | ".join(COLUMNS[key][0] for key in GOAL) + " |", "|---" * (len(GOAL) + 1) + "|"]
    for method, runs in shown.items():
        if method in REFERENCES | {"ipar"} or not len(gaps_of(shown["ipar"], runs, GOAL[0])):
            continue
        cells = [Margin(method, gaps_of(shown["ipar"], runs, key), bool(COLUMNS[key][1])).cell() for key in GOAL]
        lines.append(f"| {label(method)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def gaps_of(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], key: str) -> np.ndarray:
    """Differences of a score, seed by seed, over the seeds that both have."""
    own = {run.get("seed", i): run["scores"][key] for i, run in enumerate(ours)}
    other = {run.get("seed", i): run["scores"][key] for i, run in enumerate(theirs)}
    return np.array([own[seed] - other[seed] for seed in sorted(own.keys() & other.keys())], dtype=float)
