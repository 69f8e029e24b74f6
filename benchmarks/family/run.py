"""Every member of the IPA-Lite family on real slides, by the default recipe: JSON lines and a page.

    python -m benchmarks.family.run --data ../shared/data --markdown benchmarks/family.md

Every (task, member, seed) is kept as a line of ``family.jsonl``: an interrupted run goes on where it stopped, seed by seed,
members with as many seeds as their claims need. All members of a seed are trained on the same embeddings, which are kept
under ``--cache``, and scored on the same cells.
"""

from __future__ import annotations

import torch
from tqdm.auto import tqdm

from benchmarks.family.fits import TASKS, Protocol, run_one
from benchmarks.family.members import MEMBERS, n_seeds_of
from benchmarks.family.report import page
from benchmarks.tasks.options import parser_of, write_page


def main() -> None:
    """Run, or continue, and write the page."""
    parser = parser_of(__doc__, seeds=range(6))
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--members", nargs="+", default=list(MEMBERS), choices=MEMBERS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    jobs = [(t, m, s) for s in options.seeds for t in options.tasks for m in options.members if s < n_seeds_of(m)]
    for task, member, seed in tqdm([] if options.report_only else jobs, unit="run"):
        run_one(task, member, seed, options)
    if options.report_only or options.markdown:
        pictures = options.markdown and options.markdown.parent
        write_page(page(Protocol(), options.tasks, options.out, pictures), options.markdown)


if __name__ == "__main__":
    main()
