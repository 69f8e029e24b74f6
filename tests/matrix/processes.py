"""A program that works with ipar, and then again in other processes or threads: ``processes.py HOW FOLDER``."""

from __future__ import annotations

import multiprocessing
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import anndata as ad
import numpy as np

import ipar


def work(folder: str) -> float:
    """Load, place, sample and score, and what the coordinates add up to."""
    warnings.simplefilter("ignore")
    model, cells = ipar.load(f"{folder}/model"), ad.read_h5ad(f"{folder}/query.h5ad")
    ipar.tl.predict_coords(cells, model, reference="a", progress=False)
    ipar.tl.optimise_coords(cells, n_steps=3, progress=False)
    ipar.metrics.evaluate(cells.obsm["spatial"], cells.obsm["X_ipar"])
    return float(np.abs(cells.obsm["X_ipar"]).sum() + np.abs(cells.obsm["X_ipar_oracle"]).sum())


def umap(folder: str) -> str:
    """What a control of numba's says in a forked process."""
    try:
        ipar.baselines.pca_umap(ad.read_h5ad(f"{folder}/query.h5ad").X)
    except RuntimeError as error:
        return str(error)
    return "worked"


def main(how: str, folder: str) -> None:
    """Print what every worker found beside what this process found."""
    own = work(folder)
    if how == "joblib":
        from joblib import Parallel, delayed

        found = Parallel(n_jobs=2)(delayed(work)(folder) for _ in range(2))
    elif how == "threads":
        with ThreadPoolExecutor(2) as threads:
            found = list(threads.map(work, [folder] * 2))
    else:
        with multiprocessing.get_context(how).Pool(2) as pool:
            found = pool.map(work, [folder] * 2)
            if how == "fork":
                sys.stdout.write(pool.map(umap, [folder])[0])
    same = np.allclose(found, own, rtol=1e-4)
    sys.stdout.write("same" if same else f"{found} beside {own}")


if __name__ == "__main__":
    main(*sys.argv[1:])
