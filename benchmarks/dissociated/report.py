"""The page of dissociated cells: a table per task, and what it says of ipar."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.dissociated.texts import CHANCE, LABELS, LEAK, LIKELIEST, MISSING, PAGE, PARTS, SUBSET, Column, Part
from benchmarks.tasks.records import Record

Runs = dict[str, list[Record]]
"""Records of a task, by method in the order of the page."""


def page(records: Sequence[Record], command: str) -> str:
    """The page of the documentation."""
    found = {task: runs_of(task, records) for task in PARTS}
    shown = [section(task, runs) for task, runs in found.items() if runs]
    return PAGE.format(command=command, parts="\n".join(shown), subsets=_subsets(found.get("mop", {})))


def runs_of(task: str, records: Sequence[Record]) -> Runs:
    """What has been measured of a task; mappings stand there with their likeliest spots too."""
    own = [one for one in records if one["task"] == task]
    likeliest = [one | {"scores": one["likeliest"]} for one in own if "likeliest" in one]
    by_method = {method: [one for one in own if one["method"] == method] for method in LABELS}
    for method in by_method:
        if method.endswith(LIKELIEST):
            by_method[method] = [one for one in likeliest if one["method"] == method.removesuffix(LIKELIEST)]
    return {method: runs for method, runs in by_method.items() if runs}


def section(task: str, runs: Runs) -> str:
    """Title, text, table and reading of a task."""
    part = PARTS[task]
    blocks = [f"## {part.title}", part.text, table(part, runs), _reading(part, runs)]
    if task == "e1z2" and "nearest_spot" in runs:
        blocks.append(leak(runs["nearest_spot"]))
    if task == "hippo":
        blocks += [text for text in (paired(part, runs),) if text]
    return "\n\n".join(blocks) + "\n"


def table(part: Part, runs: Runs) -> str:
    """A row per method and a column per score."""
    heads = ["method", *(column.title for column in part.columns.values()), "seconds", "seeds"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    top = {name: best(name, column, runs) for name, column in part.columns.items()}
    for method, own in runs.items():
        cells = [_cell(name, column, own, method in top[name]) for name, column in part.columns.items()]
        lines.append(f"| {LABELS[method]} | {' | '.join(cells)} | {_seconds(own)} | {len(own)} |")
    return "\n".join(lines)


def best(name: str, column: Column, runs: Runs) -> list[str]:
    """The methods with the best mean, as it is shown; chance does not count."""
    order = ranking(name, column, runs)
    shown = {method: f"{values(name, runs[method]).mean():.{column.digits}f}" for method in order}
    return [method for method in order if shown[method] == shown[order[0]]]


def ranking(name: str, column: Column, runs: Runs) -> list[str]:
    """Methods that have a score, the best first; chance does not count."""
    if column.more is None:
        return []
    means = {method: values(name, own).mean() for method, own in runs.items() if len(values(name, own))}
    sign = -1 if column.more else 1
    return sorted((method for method in means if method not in CHANCE), key=lambda method: sign * means[method])


def values(name: str, runs: Sequence[Record]) -> NDArray[np.float64]:
    """A score of every run that has it."""
    return np.array([run["scores"][name] for run in runs if name in run["scores"]], dtype=np.float64)


def leak(runs: Sequence[Record]) -> str:
    """Why the published protocol leaks, with the figures of the look-up."""
    names = {"leaked": "leaked_median", "unseen": "unseen_median", "mixed": "mixed_median"}
    figures = {key: f"{values(name, runs).mean():.1f}" for key, name in names.items()}
    return LEAK.format(share=f"{values('leaked_share', runs).mean():.0%}", **figures)


def paired(part: Part, runs: Runs) -> str:
    """What ipar has less every other method, paired over seeds; nothing without ipar."""
    ours = {run["seed"]: run["scores"] for run in runs.get("ipar", [])}
    if not ours:
        return ""
    heads = ["ipar less …", *(column.title for column in part.columns.values())]
    lines = ["Differences, paired over seeds:", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for method, own in runs.items():
        pairs = [(ours[run["seed"]], run["scores"]) for run in own if run["seed"] in ours]
        if method == "ipar" or not pairs:
            continue
        cells = []
        for name, column in part.columns.items():
            gaps = np.array([mine[name] - other[name] for mine, other in pairs])
            cells.append(_spelled(gaps, column.digits, signed=True))
        lines.append(f"| {LABELS[method]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _reading(part: Part, runs: Runs) -> str:
    """The best methods by the main score, and where ipar stands among them."""
    column = part.columns[part.main]
    order = ranking(part.main, column, runs)
    if not order:
        return MISSING
    shown = [f"{_plain(method)} ({values(part.main, runs[method]).mean():.{column.digits}f})" for method in order[:2]]
    title = column.title.replace("*", "")
    told = f"Best by {title}: {', then '.join(shown)}."
    if "ipar" not in order:
        return f"{told} {MISSING}"
    return f"{told} ipar is number {order.index('ipar') + 1} of {len(order)}."


def _subsets(runs: Runs) -> str:
    """Which peers got fewer cells than the others."""
    sizes = {method: own[0]["n_cells"] for method, own in runs.items()}
    everything = max(sizes.values(), default=0)
    fewer = [method for method, size in sizes.items() if size < everything and not method.endswith(LIKELIEST)]
    if not fewer:
        return ""
    names = [_plain(method).removesuffix(" (peer)") for method in fewer]
    listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    return SUBSET.format(names=listed, most=f"{sizes[fewer[0]]:,}", all=f"{everything:,}")


def _plain(method: str) -> str:
    return LABELS[method].replace("*", "")


def _cell(name: str, column: Column, runs: Sequence[Record], bold: bool) -> str:
    found = values(name, runs)
    if not len(found):
        return "–"
    if name == "in_order":
        return "yes" if found.all() else f"{int(found.sum())} of {len(found)}" if found.any() else "no"
    text = _spelled(found, column.digits)
    return f"**{text}**" if bold else text


def _seconds(runs: Sequence[Record]) -> str:
    """Median time of a run."""
    seconds = float(np.median([run["seconds"] for run in runs]))
    return f"{seconds:.0f}" if seconds >= 1 else "< 1"


def _spelled(found: NDArray[np.float64], digits: int, *, signed: bool = False) -> str:
    mean = f"{found.mean():{'+' if signed else ''}.{digits}f}"
    return f"{mean} ± {found.std(ddof=1):.{digits}f}" if len(found) > 1 else mean
