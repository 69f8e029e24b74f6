"""novoSpaRc with an atlas, as in its tutorial: all genes are markers, 5 neighbours, α 0.8, ε 0.005; then barycentres."""

import anndata as ad
import novosparc
import numpy as np

from exchange import Exchange, Floats, mapped, serve

_N_NEIGHBOURS = 5
_ALPHA = 0.8
_EPSILON = 5e-3
_EPSILON_MAX = 0.5


def place(data: Exchange, seed: int) -> tuple[Floats, Floats]:
    """Coordinates of the query, and its mapping."""
    x, locations = data.reference(seed)
    tissue = novosparc.cm.Tissue(dataset=ad.AnnData(data.query), locations=locations)
    tissue.setup_reconstruction(
        markers_to_use=np.arange(x.shape[1]),
        atlas_matrix=x,
        num_neighbors_s=_N_NEIGHBOURS,
        num_neighbors_t=_N_NEIGHBOURS,
    )
    epsilon = _EPSILON
    # novoSpaRc raises ε on numerical errors, which it knows by a message that today's POT no longer prints
    while epsilon <= _EPSILON_MAX:
        tissue.reconstruct(alpha_linear=_ALPHA, epsilon=epsilon)
        if np.isfinite(tissue.gw).all() and (tissue.gw.sum(axis=1) > 0).all():
            break
        epsilon *= 10
    return mapped(tissue.gw, locations)


if __name__ == "__main__":
    serve(place)
