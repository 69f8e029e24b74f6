"""What each step of ipar brings, on training slides that were held out: a markdown page and JSON lines.

    python -m benchmarks.ablations.run --data ../shared/data --markdown benchmarks/ablations.md

No slide that ``benchmarks.run`` scores takes part, neither as the slide held out nor as one trained on: the defaults were
chosen by these folds. Every (fold, group, seed) is kept as a line of ``ablations.jsonl``. Seeds are those of the groups.
"""

from __future__ import annotations

from functools import partial

import torch
from tqdm.auto import tqdm

from benchmarks.ablations.groups import GROUPS
from benchmarks.ablations.report import page, stored
from benchmarks.tasks.options import command_of, parser_of, write_page
from benchmarks.tasks.records import kept


def main() -> None:
    """Run, or go on, and write the page."""
    parser = parser_of(__doc__)
    parser.add_argument("--groups", nargs="+", default=list(GROUPS), choices=list(GROUPS), help="what is measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.groups if not options.report_only else ():
        runs, measure = GROUPS[name].runs, GROUPS[name].measure
        if measure is None:
            continue
        for fold, seed in tqdm(runs, desc=name, unit="run"):
            identity = {"fold": fold, "group": name, "seed": seed}
            make = partial(measure, fold, seed, options.data)
            kept("ablations", identity, make, options.out, fresh=options.fresh)
    write_page(page(stored(options.out), command_of("benchmarks.ablations.run")), options.markdown)


if __name__ == "__main__":
    main()
