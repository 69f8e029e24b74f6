"""moscot's mapping problem, as in its tutorial: fused Gromov-Wasserstein with the defaults; then barycentres."""

import anndata as ad
import numpy as np
import scanpy as sc
from moscot.problems.space import MappingProblem

from exchange import Exchange, Floats, mapped, serve


def place(data: Exchange, seed: int) -> tuple[Floats, Floats]:
    """Coordinates of the query, and its mapping."""
    x, locations = data.reference(seed)
    cells, spots = ad.AnnData(data.query), ad.AnnData(x, obsm={"spatial": locations})
    sc.pp.pca(cells, random_state=seed)
    problem = MappingProblem(adata_sc=cells, adata_sp=spots)
    problem = problem.prepare(sc_attr={"attr": "obsm", "key": "X_pca"}, xy_callback="local-pca").solve()
    (solution,) = problem.solutions.values()
    return mapped(np.asarray(solution.transport_matrix).T, locations)


if __name__ == "__main__":
    serve(place)
