from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
from scipy.stats import spearmanr

DEPTH_ORDER = ["L1", "L2-3", "L4", "L5", "L6", "WM", "HPF"]


def arc(cells: ad.AnnData) -> tuple[np.ndarray, np.ndarray]:
    """Distance from the centre of the arc and angle along it."""
    x, y = cells.obsm["spatial_origin"].T
    return np.hypot(x, y), np.degrees(np.arctan2(y, x))


def test_layers_lie_one_below_the_other(layered_cells: ad.AnnData):
    radius, angle = arc(layered_cells)
    layer = layered_cells.obs["layer"].to_numpy()
    for low in (20, 60, 100, 140):
        here = (angle >= low) & (angle < low + 30)
        medians = [
            np.median(radius[here & (layer == name)]) for name in DEPTH_ORDER[:6] if (here & (layer == name)).any()
        ]
        assert len(medians) >= 5
        assert (np.diff(medians) < 0).all()


def test_cortex_is_thicker_at_one_end_and_the_hippocampus_is_off_centre(layered_cells: ad.AnnData):
    radius, angle = arc(layered_cells)
    cortex = layered_cells.obs["layer"].isin(DEPTH_ORDER[:5]).to_numpy()

    def thickness(low: float) -> float:
        inside = radius[cortex & (angle >= low) & (angle < low + 20)]
        return float(inside.max() - inside.min())

    assert thickness(30) > 1.2 * thickness(140)
    deep = layered_cells.obs["layer"].isin(["HPF", "CA"]).to_numpy()
    assert np.median(angle[deep]) - np.median(angle[cortex]) > 10


def test_granular_layer_is_thick_in_the_middle_only(layered_cells: ad.AnnData):
    _, angle = arc(layered_cells)
    layer = layered_cells.obs["layer"].to_numpy()
    cortex = np.isin(layer, DEPTH_ORDER[:5])
    middle, ends = (cortex & (np.abs(angle - 96) < 25)), (cortex & (np.abs(angle - 96) > 60))
    assert (layer[middle] == "L4").mean() > 1.5 * (layer[ends] == "L4").mean()


def test_the_pyramidal_band_is_a_ring_segment_within_the_hippocampus(layered_cells: ad.AnnData):
    layer, coords = layered_cells.obs["layer"], layered_cells.obsm["spatial_origin"]
    band = coords[(layer == "CA").to_numpy()]
    whole = coords[layer.isin(["CA", "HPF"]).to_numpy()]
    # a filled patch has cells at its centre; a band has none there
    centre = whole.mean(axis=0)
    assert np.linalg.norm(band - centre, axis=1).min() > 0.25 * np.linalg.norm(whole - centre, axis=1).max()


def test_cell_types_prefer_their_layer(layered: ad.AnnData):
    table = pd.crosstab(layered.obs["cell_type"], layered.obs["layer"], normalize="index")
    for cell_type, layer in [("Ex L2-3", "L2-3"), ("Ex L4", "L4"), ("Ex L5", "L5"), ("Ex L6", "L6"), ("Ex CA", "CA")]:
        assert table.loc[cell_type].idxmax() == layer
        assert table.loc[cell_type, layer] > 0.6
    assert table.loc["Oligodendrocyte"].idxmax() == "WM"
    # vessels and microglia are everywhere
    assert table.loc["Endothelial"].max() < 0.5
    assert (pd.crosstab(layered.obs["slide"], layered.obs["layer"]) > 0).all(axis=None)


def test_some_genes_are_graded_along_the_arc_and_others_along_the_depth(layered_cells: ad.AnnData):
    radius, angle = arc(layered_cells)
    cortex = layered_cells.obs["layer"].isin(DEPTH_ORDER[:5]).to_numpy()
    expression = layered_cells.X.toarray()[cortex]
    along, across = (
        np.abs(np.nan_to_num(spearmanr(np.column_stack([expression, axis[cortex]])).statistic[-1, :-1]))
        for axis in (angle, radius)
    )
    tangential = (layered_cells.var["programme"] == "tangential").to_numpy()
    layer = (layered_cells.var["programme"] == "layer").to_numpy()
    other = layered_cells.var["programme"].isin(["housekeeping"]).to_numpy()
    assert np.median(along[tangential]) > 0.25
    assert np.percentile(along[~tangential], 90) < 0.15
    assert np.median(across[layer]) > np.percentile(across[other], 90)


def test_sections_differ_in_outline_but_not_in_size(layered: ad.AnnData):
    extents = []
    for slide in layered.obs["slide"].cat.categories:
        coords = layered.obsm["spatial"][(layered.obs["slide"] == slide).to_numpy()]
        extents.append(np.sqrt(((coords - coords.mean(axis=0)) ** 2).sum(axis=1).mean()))
    # micrometres: a few millimetres across
    assert all(500 < extent < 1500 for extent in extents)
    assert 1 < max(extents) / min(extents) < 1.25
