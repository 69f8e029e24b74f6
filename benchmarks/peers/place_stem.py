"""STEM, as in its README: 400 epochs, σ half the distance of adjacent spots; then barycentres of its SC-ST mapping.

References of more than 1,000 spots are given as a list of batches, which ``train_wholedata`` takes.
"""

from types import SimpleNamespace

import numpy as np
import torch
from scipy.spatial import cKDTree
from STEM.model import SOmodel
from STEM.utils import seed_all

from exchange import Exchange, Floats, mapped, serve

_N_EPOCHS = 400
_BATCH = 1000


def kernels(
    source: torch.Tensor, target: torch.Tensor, kernel_mul: float, kernel_num: int, fix_sigma: float | None
) -> torch.Tensor:
    """STEM's sum of Gaussian kernels of doubling widths, without its tensor of ``(n, n, 128)`` differences."""
    both = torch.cat([source, target])
    squared = both.square().sum(1)
    distance = (squared[:, None] + squared[None, :] - 2 * both @ both.T).clamp(min=0)
    n = len(both)
    width = fix_sigma or distance.detach().sum() / (n * n - n) / kernel_mul ** (kernel_num // 2)
    return torch.stack([torch.exp(-distance / (width * kernel_mul**i)) for i in range(kernel_num)]).sum(0)


def place(data: Exchange, seed: int) -> tuple[Floats, Floats]:
    """Coordinates of the query, and its mapping."""
    seed_all(seed)
    x, locations = data.reference(seed)
    spots, cells = torch.tensor(x, dtype=torch.float32), torch.tensor(data.query, dtype=torch.float32)
    spacing = np.median(cKDTree(locations).query(locations, k=2)[0][:, 1])
    coords = torch.tensor(locations / spacing, dtype=torch.float32)
    model = SOmodel(_settings(x, data.query))
    model.mmd_fn.guassian_kernel = kernels  # the same loss in a hundredth of the memory; the name is the package's
    n_batches = -(-len(spots) // _BATCH)
    rows = np.array_split(np.random.default_rng(seed).permutation(len(spots)), n_batches)
    given = [(spots[r], coords[r]) for r in rows] if n_batches > 1 else [(spots, coords)]
    model.train_wholedata(_N_EPOCHS, cells, [s for s, _ in given], [c for _, c in given])
    model.modeleval()
    with torch.no_grad():
        mapping = torch.softmax(model.netE(cells) @ model.netE(spots).T, dim=1)
    return mapped(mapping.numpy(), locations)


def _settings(spots: Floats, cells: Floats) -> SimpleNamespace:
    """The README's; dropout brings spots down to the number of genes seen in a cell."""
    seen = [np.median((x > 0).sum(axis=1)) for x in (cells, spots)]
    return SimpleNamespace(
        device="cpu",
        outf=".",  # the process runs in a folder of its own, which is removed
        n_genes=spots.shape[1],
        no_bn=False,
        lr=0.002,
        sigma=0.5,
        alpha=0.8,
        verbose=False,
        mmdbatch=min(1000, len(cells)),
        dp=max(0.0, 1 - seen[0] / seen[1]),
    )


if __name__ == "__main__":
    serve(place)
