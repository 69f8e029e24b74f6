"""CeLEry, as in its tutorial: z-scores, then a network from genes to coordinates, here learned on all training slides.

It is the one peer that needs no reference slide, since it regresses coordinates: the training slides come in one frame.
"""

import tempfile

import anndata as ad
import CeLEry
import numpy as np
import pandas as pd

from exchange import Exchange, Floats, serve

_HIDDEN = [100, 50, 20]  # as in its authors' notebooks of brain sections
_N_EPOCHS = 500
_UNIT = 1000.0  # CeLEry widens the range of coordinates by one unit on every side, which must be small


def place(data: Exchange, seed: int) -> Floats:
    """Coordinates of the query."""
    parts = [data.x[data.slides == name] for name in np.unique(data.slides)] + [data.query]
    varies = np.all([part.std(axis=0) > 0 for part in parts], axis=0)
    x = np.empty((len(data.x), varies.sum()), dtype=np.float32)
    for name in np.unique(data.slides):
        x[data.slides == name] = _z_scores(data.x[data.slides == name][:, varies])
    locations = pd.DataFrame(data.coords * _UNIT, columns=["x_cord", "y_cord"])
    with tempfile.TemporaryDirectory() as folder:
        CeLEry.Fit_cord(
            ad.AnnData(x),
            location_data=locations,
            hidden_dims=_HIDDEN,
            num_epochs_max=_N_EPOCHS,
            path=folder,
            filename="model",
            num_workers=0,  # a process that loads batches of four cells costs more than it saves
            seednum=seed,
        )
        placed = CeLEry.Predict_cord(ad.AnnData(_z_scores(data.query[:, varies])), path=folder, filename="model")
    low, high = data.coords.min(axis=0), data.coords.max(axis=0)
    coords: Floats = low + placed * (high - low)  # CeLEry's are in [0, 1], axis by axis
    return coords


def _z_scores(x: Floats) -> Floats:
    slide = ad.AnnData(x)
    CeLEry.get_zscore(slide)
    scores: Floats = slide.X
    return scores


if __name__ == "__main__":
    serve(place)
