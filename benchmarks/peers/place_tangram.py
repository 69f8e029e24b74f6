"""Tangram, as in its tutorial: every cell's probabilities over the spots, trained for 500 epochs; then their barycentre.

The density prior is uniform, as Tangram advises where a location holds as much as a cell of the query does: both are
spots, or both are cells.
"""

import anndata as ad
import tangram as tg
from scipy.sparse import csr_matrix

from exchange import Exchange, Floats, mapped, serve

_N_EPOCHS = 500


def place(data: Exchange, seed: int) -> tuple[Floats, Floats]:
    """Coordinates of the query, and its mapping."""
    x, locations = data.reference(seed)
    cells, spots = ad.AnnData(csr_matrix(data.query)), ad.AnnData(csr_matrix(x))
    tg.pp_adatas(cells, spots, genes=None)
    mapping = tg.map_cells_to_space(
        cells,
        spots,
        mode="cells",
        density_prior="uniform",
        num_epochs=_N_EPOCHS,
        random_state=seed + 1,  # Tangram takes 0 for no seed at all
        verbose=False,
    )
    return mapped(mapping.X, locations)


if __name__ == "__main__":
    serve(place)
