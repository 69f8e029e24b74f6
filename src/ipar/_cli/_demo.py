"""Demonstration on a simulated tissue, from slides to scores and plots."""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import matplotlib as mpl
from matplotlib.figure import Figure
from numpy.typing import NDArray

import ipar
from ipar import baselines
from ipar._cli._files import write
from ipar._files import replaced
from ipar.metrics import procrustes_align
from ipar.training import Recipe

_SHOWN = {
    "luna_spearman": "Spearman",
    "knn_hit_20_ratio": "kNN hit@20",
    "contact_f1_1": "F1@1%",
    "procrustes_rmse": "Procrustes",
    "coverage": "coverage",
    "e_geo": "E_geo",
    "evenness_ratio": "evenness",
}


def run_demo(options: argparse.Namespace) -> None:
    """Simulate, train, predict, compare with controls, and plot."""
    mpl.use("Agg")
    ipar.settings.verbosity = min(ipar.settings.verbosity, 1)  # the demonstration prints its own messages
    start = time.monotonic()
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    simulate = ipar.datasets.layered_tissue if options.tissue == "layers" else ipar.datasets.liver_lobules
    slides = simulate(n_slides=3, random_state=options.seed)
    train, test = slides[slides.obs["slide"] != "slide3"].copy(), slides[slides.obs["slide"] == "slide3"].copy()
    truth = test.obsm.pop("spatial")  # only the expression of the held-out slide is used
    print(f"simulated {options.tissue}: {train.n_obs} cells on 2 training slides, {test.n_obs} cells on a held-out one")

    columns = _score_controls(train, test, truth, options.seed, output)
    print("\nTraining (quality='fast')", flush=True)
    if not _is_localisable(train, options):
        _save(ipar.pl.localisability(train, return_fig=True), output / "localisability.png")
        write(train, output / "train.h5ad")
        print("\nRefused: coordinates predicted for this tissue would mean nothing; no model was trained.")
        print(f"{time.monotonic() - start:.0f} s in total; {output}/localisability.png shows the figures.")
        return
    how: dict[str, Any] = {"random_state": options.seed, "progress": not options.quiet}
    model = ipar.tl.fit_ipalite(train, "slide", quality="fast", **how)
    ipar.tl.predict_coords(test, model, random_state=options.seed, progress=not options.quiet)
    columns = {"ipar": ipar.metrics.evaluate(truth, test.obsm["X_ipar"])} | columns
    print(f"\nHeld-out slide, ipar and the controls\n{_head()}")
    print("\n".join(_row(name, scores) for name, scores in columns.items()))
    print("(higher is better, except for Procrustes error, in RMS radii, and E_geo; kNN hit is relative to chance,")
    print("evenness to the truth, where one is best)")

    test.obsm["spatial"] = truth
    test.obsm["X_ipar_aligned"] = procrustes_align(truth, test.obsm["X_ipar"])
    model.save(output / "model")
    write(test, output / "predicted.h5ad")
    _draw(train, test, output)
    print(f"\n{time.monotonic() - start:.0f} s in total; plots, predicted.h5ad and the model are in {output}/")


def _is_localisable(train: ad.AnnData, options: argparse.Namespace) -> bool:
    """Embed the training slides, and print whether the tissue can be localised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ipar.pp.LocalisabilityWarning)  # printed in full below
        recipe = Recipe.fast().embed
        ipar.pp.embed(train, "slide", recipe=recipe, random_state=options.seed, progress=not options.quiet)
    verdict = train.uns["ipar"]["localisability"]
    print(
        f"Localisable: {'yes' if verdict['localisable'] else 'NO'} "
        f"(on held-out training slides: {verdict['explained']:.0%} of positions explained; "
        f"distance Spearman {verdict['distance_spearman']:.2f}, "
        f"permuted {verdict['permutation_spearman']:.2f}; candidate recall {verdict['recall_ratio']:.1f} x chance)"
    )
    return bool(verdict["localisable"])


def _head() -> str:
    return f"{'':<16}" + "".join(f"{title:>12}" for title in _SHOWN.values())


def _row(name: str, scores: dict[str, float]) -> str:
    return f"{name:<16}" + "".join(f"{scores[key]:>12.3f}" for key in _SHOWN)


def _score_controls(
    train: ad.AnnData, test: ad.AnnData, truth: NDArray[Any], seed: int, output: Path
) -> dict[str, dict[str, float]]:
    """Print the scores of the controls, and draw one of them: a first picture within seconds."""
    print(f"\nControls on the held-out slide\n{_head()}", flush=True)
    columns = {}
    for name, coords in _controls(train, test, truth, seed):
        columns[name] = ipar.metrics.evaluate(truth, coords)
        print(_row(name, columns[name]), flush=True)
        if name == "PCA + kNN":
            cells = test.copy()
            cells.obsm["spatial"], cells.obsm["X_ipar"] = truth, coords
            _save(ipar.pl.coords(cells, return_fig=True), output / "control.png")
            print(f"(first picture, of this control: {output}/control.png)", flush=True)
    return columns


def _controls(
    train: ad.AnnData, test: ad.AnnData, truth: NDArray[Any], seed: int
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the predictions of the controls, the quick ones first."""
    x, query = train.X.toarray(), test.X.toarray()
    known, slides = train.obsm["spatial"], train.obs["slide"].to_numpy()
    yield "permuted", baselines.permuted(truth, random_state=seed)
    yield "PCA + kNN", baselines.pca_knn_regression(x, known, slides, query, random_state=seed)
    yield "PCA + UMAP", baselines.pca_umap(query, random_state=seed)
    yield "embedding + MDS", baselines.distance_embedding_mds(x, known, slides, query, random_state=seed)


def _draw(train: ad.AnnData, test: ad.AnnData, output: Path) -> None:
    for name, cells in (("coords", test), ("coord_progression", test), ("history", train), ("localisability", train)):
        _save(getattr(ipar.pl, name)(cells, return_fig=True), output / f"{name}.png")
    figures = ipar.pl.attention_focus(test, return_fig=True) or []
    for number, figure in enumerate(figures, start=1):
        _save(figure, output / f"attention_focus_{number}.png")


def _save(figure: Figure | None, path: Path) -> None:
    from matplotlib import pyplot as plt

    if figure is not None:
        with replaced(path) as staging:
            figure.savefig(staging, format="png", dpi=150, bbox_inches="tight")
        plt.close(figure)
