"""The page of times: what users run, before and now, the qualities side by side, and peers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.peers.speed import table as table_of_peers
from benchmarks.tasks.records import Record

Title = tuple[str, float | None, float | None]  # of a row, and its limits in seconds and GiB

QUALITIES = {"ipar_fast": "`fast`", "ipar_default": "`default`", "ipar": "`best`, as of the version before"}
SCORES = {
    "luna_spearman": "LUNA Spearman",
    "knn_hit_20_ratio": "kNN hit@20 ÷ chance",
    "e_geo": "E_geo",
    "evenness_ratio": "evenness ÷ truth",
}

_PAGE = """# Time and memory

Each row is a process of its own on {cpus} CPU cores without a GPU. Made with

```bash
{command}
```

{table}

*Before* is commit `{before}`, measured in the same run. CPU seconds are the sum over threads, and seconds are wall-clock time.
Peak memory includes the expression matrix.

Training takes a fixed number of steps on small sets, so its time grows slowly with the number of cells. Reading, embedding
and scoring grow with it. All given genes are read, so a whole transcriptome costs memory: `mask_var="highly_variable"` reads
those that vary most. Prediction is almost linear in cells.

`adata.uns["ipar"]["fit"]["seconds"]` holds the time of every stage of a fit. Those of the default fit above:

{stages}

## Which quality?

{qualities}

Their time is in the first table. The flow is part of `best` only; `fit_ipalite(…, flow=True)` adds it to any quality. {{doc}}`benchmarks`
shows what every method costs and reaches on real slides.

## Other methods

CPU seconds and peak memory of published methods that place cells of the same section on one thread, each from its own
package (`python -m benchmarks.peers.speed`):

{peers}
"""


def table_of_runs(titles: Mapping[str, Title], found: Sequence[Record]) -> str:
    """A row per measurement: CPU seconds before and now, their ratio, and time and memory beside their limits."""
    now = {one["name"]: one for one in found if one["version"] == "now"}
    before = {one["name"]: one for one in found if one["version"] != "now"}
    head = ("what", "CPU s before", "CPU s now", "before ÷ now", "seconds", "at most", "peak GiB", "at most")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, (title, seconds, gib) in titles.items():
        if name not in now:
            continue
        one, old = now[name], before.get(name)
        times = ["", number(one["cpu_seconds"]), ""]
        if old is not None:
            times = [number(old["cpu_seconds"]), times[1], f"{old['cpu_seconds'] / max(one['cpu_seconds'], 1e-3):.1f}"]
        limits = [f"{limit:g}" if limit else "" for limit in (seconds, gib)]
        cells = [title, *times, number(one["seconds"]), limits[0], f"{one['peak_gib']:.1f}", limits[1]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def number(seconds: float) -> str:
    """Few digits."""
    return f"{seconds:.2f}" if seconds < 1 else f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}"


def table_of_qualities(found: Sequence[Record]) -> str:
    """Mean scores over the tasks that have been run in every quality with the first seed."""
    runs = {
        quality: {one["task"]: one for one in found if one["method"] == quality and one["seed"] == 0}
        for quality in QUALITIES
    }
    runs = {quality: tasks for quality, tasks in runs.items() if tasks}
    shared = sorted(set.intersection(*(set(tasks) for tasks in runs.values()))) if runs else []
    if len(runs) < 2 or not shared:
        return "Not measured yet."
    lines = [f"Means over tasks ({', '.join(shared)}), one seed:", ""]
    lines += [f"| quality | {' | '.join(SCORES.values())} |", "|---" * (len(SCORES) + 1) + "|"]
    for quality, tasks in runs.items():
        means = [np.mean([tasks[task]["scores"].get(name, np.nan) for task in shared]) for name in SCORES]
        cells = ["–" if np.isnan(mean) else f"{mean:.3f}" for mean in means]  # not every run has kept all scores
        lines.append(f"| {QUALITIES[quality]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def table_of_stages(found: Sequence[Record]) -> str:
    """Seconds of every stage of the default fit."""
    stages = next((one["stages"] for one in found if one["name"] == "fit" and one["version"] == "now"), {})
    names = [name for name, seconds in stages.items() if seconds >= 0.05]
    if not names:
        return "Not measured yet."
    cells = [number(stages[name]) for name in names]
    return f"| {' | '.join(names)} |\n{'|---' * len(names)}|\n| {' | '.join(cells)} |"


def page(titles: Mapping[str, Title], records: Mapping[str, Sequence[Record]], command: str) -> str:
    """The page of the documentation."""
    runs = records["speed"]
    before = sorted({one["version"] for one in runs} - {"now"})
    return _PAGE.format(
        cpus=", ".join(map(str, sorted({one["cpus"] for one in runs}))),
        command=command,
        before=", ".join(before),
        table=table_of_runs(titles, runs),
        stages=table_of_stages(runs),
        qualities=table_of_qualities(records["benchmarks"]),
        peers=table_of_peers(list(records["peer_speed"])),
    )
