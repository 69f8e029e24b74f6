"""How many true neighbours are among the candidates: by their number, and by the distance they are sought with.

    python -m benchmarks.family.candidates --data ../shared/data

Nothing is trained but the encoder, whose embeddings are those of the family. Every (task, seed) is kept as a line of
``candidates.jsonl``, and ``benchmarks.family.run`` puts them on its page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from tqdm.auto import tqdm

from benchmarks.family.fits import TASKS, Protocol
from benchmarks.tasks.embedded import Embedded, embedded
from benchmarks.tasks.options import parser_of
from benchmarks.tasks.records import Record, kept
from ipar.graph.candidates import cosine_candidates
from ipar.training.minisets import Miniset

COUNTS = (60, 80, 100, 120)


def euclidean_candidates(h: Tensor, n_neighbors: int) -> Tensor:
    """As :func:`ipar.graph.candidates.cosine_candidates`, by Euclidean distance."""
    distance = torch.cdist(h, h)
    distance.diagonal(dim1=-2, dim2=-1).fill_(float("inf"))
    return distance.topk(min(n_neighbors, h.shape[-2] - 1), dim=-1, largest=False).indices


DISTANCES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "cosine": cosine_candidates,
    "Euclidean": euclidean_candidates,
}


def recall(sets: Sequence[Miniset], candidates: Callable[[Tensor, int], Tensor], count: int) -> float:
    """Share of a cell's true neighbours that are among its candidates: the mean over cells of the mean over sets."""
    shares = []
    for one in sets:
        true = one.walk.adjacency
        found = true.gather(-1, candidates(one.h, count)).sum(-1)
        shares.append((found / true.sum(-1).clamp_min(1)).mean().item())
    return sum(shares) / len(shares)


def measure(slides: Embedded, seed: int, protocol: Protocol) -> Record:
    """Recall on minisets of the test slide, and that of random candidates."""
    sets = slides.scored(protocol.n_scored, protocol.recipe.plan.size, max(COUNTS), seed)
    sizes = [len(one.h) - 1 for one in sets]
    found = {name: {str(k): round(recall(sets, near, k), 4) for k in COUNTS} for name, near in DISTANCES.items()}
    chance = {str(k): round(sum(min(k / n, 1.0) for n in sizes) / len(sizes), 4) for k in COUNTS}
    return {"recall": found | {"random": chance}}


def main() -> None:
    """Run, or go on."""
    parser = parser_of(__doc__, page=False)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    options = parser.parse_args()
    torch.set_num_threads(1)

    def make(task: str, seed: int) -> Record:
        return measure(embedded(task, seed, options.data, options.cache), seed, Protocol())

    for task, seed in tqdm([(t, s) for s in options.seeds for t in options.tasks], unit="run"):
        identity = {"task": task, "seed": seed}
        kept("candidates", identity, partial(make, task, seed), options.out, fresh=options.fresh)


if __name__ == "__main__":
    main()
