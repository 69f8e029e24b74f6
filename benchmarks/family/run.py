"""Every member of the IPA-Lite family on real slides, under one reduced recipe: JSON lines and a page.

    python -m benchmarks.family.run --data ../shared/data --markdown benchmarks/family.md

Every (task, member, seed) is kept as a line of ``family.jsonl``: an interrupted run goes on where it stopped. All
members of a seed are trained on the same embeddings, which are kept under ``--cache``, and scored on the same minisets.
"""

from __future__ import annotations

import torch
from tqdm.auto import tqdm

from benchmarks.family.fits import TASKS, Budget, run_one
from benchmarks.family.members import MEMBERS
from benchmarks.family.report import page
from benchmarks.tasks.options import parser_of, write_page


def main() -> None:
    """Run, or continue, and write the page."""
    parser = parser_of(__doc__)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--members", nargs="+", default=list(MEMBERS), choices=MEMBERS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    jobs = [(t, m, s) for s in options.seeds for t in options.tasks for m in options.members]
    for task, member, seed in tqdm([] if options.report_only else jobs, unit="run"):
        run_one(task, member, seed, options)
    pictures = options.markdown and options.markdown.parent
    write_page(page(Budget(), options.tasks, options.out, pictures), options.markdown)


if __name__ == "__main__":
    main()
