from __future__ import annotations

import numpy as np
import torch

from benchmarks.ablations.gates import NarrowGate, RelationGate, with_relations
from ipar.nn.gate import dense_gate

WIDTH, N, ROOM = 4, 24, 30


def sets(b=2, seed=0):
    return torch.randn(b, N, WIDTH + 6, generator=torch.Generator().manual_seed(seed))


def edges():
    rng = np.random.default_rng(3)
    i = rng.integers(0, 2 * N, 200)
    j = i // N * N + (i + rng.integers(1, N, 200)) % N  # another cell of the same set
    return i, j


def expected(h, i, j):
    """Relations of two cells of one set, from sorted lists in plain Python."""
    parts = (h[:, :WIDTH], h[:, WIDTH:])
    lists, units = [], [part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts]
    for unit in units:
        lists.append([[c for c in np.argsort(-unit @ unit[a]) if c != a] for a in range(len(h))])
    own = parts[1]
    cosine = own[i] @ own[j] / np.linalg.norm(own[i]) / np.linalg.norm(own[j])
    sparse = [np.log(np.mean([1 - units[0][a] @ units[0][b] for b in lists[0][a][:15]])) for a in range(len(h))]
    sparse = np.subtract(sparse, np.mean(sparse))
    near = [[1 / (1 + each[a].index(b) / 8) for each in lists] for a, b in ((i, j), (j, i))]
    shared = [len(set(each[i][:15]) & set(each[j][:15])) / 15 for each in lists]
    there, back = ([cosine, *near[k], *shared, sparse[c]] for k, c in ((0, i), (1, j)))
    return [*there, *back, *np.minimum(*near)]


def test_the_gate_reads_what_relates_two_cells_of_their_set():
    h = sets()
    source, target = edges()
    wide = with_relations(h, WIDTH, ROOM).flatten(0, 1)
    found = RelationGate(WIDTH).read(wide, torch.from_numpy(source), torch.from_numpy(target)).numpy()
    for row, i, j in zip(found, source, target, strict=True):
        np.testing.assert_allclose(row, expected(h[i // N].numpy().astype(float), i % N, j % N), atol=1e-5)


def test_noise_of_training_hides_no_relation_and_a_lost_mark_all():
    source, target = map(torch.from_numpy, edges())
    gate, wide = RelationGate(WIDTH), with_relations(sets(), WIDTH, ROOM).flatten(0, 1)
    clean = gate.read(wide, source, target)
    noisy = wide + 0.3 * torch.randn(wide.shape, generator=torch.Generator().manual_seed(1))
    assert (gate.read(noisy, source, target) - clean).abs().max() < 0.3
    wide[5, -ROOM:] = 0  # as dropout leaves it
    lost = (source == 5) | (target == 5)
    assert 0 < int(lost.sum()) < len(source)
    found = gate.read(wide, source, target)
    assert not found[lost].any()
    torch.testing.assert_close(found[~lost], clean[~lost])


def test_the_gate_tells_edges_apart_that_one_without_relations_cannot():
    h = sets(1)
    h[:, :, :WIDTH] = 1.0  # all cells are alike in the embedding
    wide = with_relations(h, WIDTH, ROOM)
    candidates = ~torch.eye(N, dtype=torch.bool)[None]
    with torch.no_grad():
        spread = {
            kind: float(dense_gate(kind(WIDTH), wide, candidates)[candidates].std())
            for kind in (NarrowGate, RelationGate)
        }
    assert spread[NarrowGate] < 1e-6
    assert spread[RelationGate] > 1e-3
