"""ipar beside every other method: differences, task by task and seed by seed."""

from __future__ import annotations

from typing import Any

import numpy as np

Results = dict[str, dict[str, list[dict[str, Any]]]]

# key: title, and whether more is better
COLUMNS = {
    "luna_spearman": ("LUNA Spearman", True),
    "knn_hit_20_ratio": ("kNN hit@20 ÷ chance", True),
    "contact_f1_1": ("contact F1@1 %", True),
    "contact_f1_10": ("contact F1@10 %", True),
    "procrustes_rmse": ("Procrustes RMSE", False),
    "stress1": ("Stress-1", False),
    "trustworthiness_20": ("trustw.@20", True),
    "coverage": ("coverage", True),
    "e_geo": ("E_geo", False),
}
GOAL = ("luna_spearman", "knn_hit_20_ratio", "contact_f1_1", "procrustes_rmse", "e_geo")
OURS = {"ipar", "iga"}
REFERENCES = {"within_slide_mlp", "permuted"}  # they read the truth: never in bold, never compared
PEERS = {  # published methods, which peers/run.py runs
    "celery": "CeLEry (peer)",
    "tangram": "Tangram (peer)",
    "novosparc": "novoSpaRc (peer)",
    "moscot": "moscot (peer)",
    "stem": "STEM (peer)",
}


def glance(results: Results) -> str:
    """Every task in a line: ipar minus the best other method of each score, control or peer."""
    lines = [
        "## At a glance",
        "",
        "ipar less the best of all controls and published peers of each score, mean ± sd over the seeds that both have (in bold",
        "where ipar is ahead), and less the reference that learns from four fifths of the scored slide itself. Where ipar refuses",
        "a tissue, being ahead means little: nothing is good there.",
        "",
    ]
    titles = [COLUMNS[key][0] for key in GOAL]
    lines += [
        "| task | can be localised | ahead in | " + " | ".join(titles) + " | Spearman − within-slide |",
        "|---" * (len(GOAL) + 4) + "|",
    ]
    for task, by_method in results.items():
        shown = {m: runs for m, runs in by_method.items() if not any("skipped" in run for run in runs)}
        if "ipar" not in shown:
            continue
        ours = shown["ipar"]
        verdicts = [bool(run["localisability"]["localisable"]) for run in ours if "localisability" in run]
        word = "yes" if verdicts and all(verdicts) else "no" if not any(verdicts) else "undecided"
        cells = [_margin(shown, key) for key in GOAL]
        beyond = "–"
        if "within_slide_mlp" in shown:
            beyond = f"{(values(ours, GOAL[0]).mean() - values(shown['within_slide_mlp'], GOAL[0]).mean()):+.3f}"
        ahead = f"{sum(cell.startswith('**') for cell in cells)} of {len(cells)}"
        lines.append(f"| {task} | {word} | " + " | ".join([ahead, *cells, beyond]) + " |")
    return "\n".join(lines) + "\n"


def _margin(shown: dict[str, list[dict[str, Any]]], key: str) -> str:
    others = {m: values(runs, key).mean() for m, runs in shown.items() if m not in REFERENCES | OURS}
    if not others:
        return "–"
    sign = 1 if COLUMNS[key][1] else -1
    best = max(others, key=lambda m: sign * others[m])
    gaps = _gaps(shown["ipar"], shown[best], key)
    if not len(gaps):  # no seed in common
        gaps = values(shown["ipar"], key).mean(keepdims=True) - others[best]
    text = mean_sd(gaps, form="+.3f")
    return f"{f'**{text}**' if sign * gaps.mean() > 0 else text} ({label(best).split(' (')[0].split(',')[0]})"


def label(method: str) -> str:
    """What a method is called on the page."""
    from controls import LABELS

    return (LABELS | PEERS).get(method, method)


def values(runs: list[dict[str, Any]], key: str) -> np.ndarray:
    """A score of every run."""
    return np.array([run["scores"][key] for run in runs], dtype=float)


def mean_sd(found: np.ndarray, *, form: str = ".3f") -> str:
    """Mean ± sd; of one run the value alone, which has none."""
    text = f"{round(found.mean(), 6) + 0.0:{form}}"  # no negative zero
    return f"{text} ± {found.std(ddof=1):.3f}" if len(found) > 1 else text


def cell(found: np.ndarray, *, bold: bool) -> str:
    """Mean ± sd, as a cell of a table."""
    text = mean_sd(found)
    return f"**{text}**" if bold else text


def paired(shown: dict[str, list[dict[str, Any]]]) -> str:
    """Ipar minus every control and peer, seed by seed."""
    lines = ["ipar minus control or peer, paired over seeds (in bold where ipar is ahead):", ""]
    lines += ["| method | " + " | ".join(COLUMNS[key][0] for key in GOAL) + " |", "|---" * (len(GOAL) + 1) + "|"]
    for method, runs in shown.items():
        if method in REFERENCES | {"ipar"} or not len(_gaps(shown["ipar"], runs, GOAL[0])):
            continue
        cells = []
        for key in GOAL:
            gap = _gaps(shown["ipar"], runs, key)
            better = gap.mean() if COLUMNS[key][1] else -gap.mean()
            ahead = better > 1e-9  # not the rounding of a tie
            text = mean_sd(gap, form="+.3f")
            cells.append(f"**{text}**" if ahead else text)
        lines.append(f"| {label(method)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _gaps(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], key: str) -> np.ndarray:
    """Differences of a score, seed by seed, over the seeds that both have."""
    own = {run.get("seed", i): run["scores"][key] for i, run in enumerate(ours)}
    other = {run.get("seed", i): run["scores"][key] for i, run in enumerate(theirs)}
    return np.array([own[seed] - other[seed] for seed in sorted(own.keys() & other.keys())], dtype=float)
