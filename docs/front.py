"""The picture of the first page: a mouse embryo that the model has not seen.

    IPAR_DATA=folder python docs/front.py

The folder holds ``mouse_embryo_seqfish.h5ad``. Nothing is chosen by the coordinates of the third embryo; they turn the layout onto the
truth, and give the error in the title.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt

import ipar

embryos = ipar.datasets.fetch("mouse_embryo_seqfish")
train = embryos[embryos.obs["slide"] != "embryo3"].copy()
cells = embryos[embryos.obs["slide"] == "embryo3"].copy()
model = ipar.tl.fit_ipalite(train, "slide", quality="fast", progress=False)
ipar.tl.predict_coords(cells, model, progress=False)

figure = plt.figure(figsize=(11, 4.6))
axes = [figure.add_axes((left, 0.02, 0.31, 0.88)) for left in (0.0, 0.32, 0.64)]
ipar.pl.coords(cells, "cell_type", size=3, ax=axes[:2])
truth, found = cells.obsm["spatial"], cells.obsm["X_ipar"]
cells.obsm["turned"] = ipar.metrics.procrustes_align(truth, found)
ipar.pl.coords(cells, "ipar_uncertainty", use_rep="turned", spatial_key=None, size=3, cmap="magma_r", ax=axes[2])
axes[2].set(xlim=axes[1].get_xlim(), ylim=axes[1].get_ylim())
for ax, title in zip(axes, ("truth", "prediction", "expected error"), strict=True):
    ax.set_title(title, fontsize=13)
values = cells.obs["ipar_uncertainty"]
shades = plt.cm.ScalarMappable(plt.Normalize(values.min(), values.max()), "magma_r")
bar = figure.colorbar(shades, cax=figure.add_axes((0.935, 0.2, 0.008, 0.5)))
bar.set_label("RMS radii of the tissue", fontsize=9)
bar.ax.tick_params(labelsize=8)
bar.outline.set_visible(False)
figure.savefig(Path(__file__).parent / "images" / "front.png", dpi=130, facecolor="white")
