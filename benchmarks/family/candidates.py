"""How many true neighbours are among the candidates: by their number, and by the distance they are sought with.

    python -m benchmarks.family.candidates --data ../shared/data

Nothing is trained but the encoder, whose embeddings are those of the family. Every (task, seed) is kept as a line of
``candidates.jsonl``, and ``benchmarks.family.run`` puts them on its page.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.family.fits import TASKS, Protocol, measure_tasks
from benchmarks.tasks.embedded import Embedded
from benchmarks.tasks.records import Record
from ipar.graph.candidates import cosine_candidates
from ipar.training.health import candidate_recall

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


def measure(slides: Embedded, seed: int, protocol: Protocol) -> Record:
    """Recall on minisets of the test slide, and that of random candidates."""
    sets = slides.scored(protocol.n_scored, protocol.recipe.plan.size, max(COUNTS), seed)
    sizes = [len(one.h) - 1 for one in sets]
    found = {name: candidate_recall(sets, COUNTS, nearest) for name, nearest in DISTANCES.items()}
    chance = {str(k): round(sum(min(k / n, 1.0) for n in sizes) / len(sizes), 4) for k in COUNTS}
    return {"recall": found | {"random": chance}}


if __name__ == "__main__":
    measure_tasks(__doc__, "candidates", measure, TASKS)
