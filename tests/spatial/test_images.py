"""Images of a SpatialData below true positions."""

from __future__ import annotations

import numpy as np
import pytest
import spatialdata as sd
from matplotlib import pyplot as plt
from spatialdata.models import Image2DModel
from spatialdata.transformations import Affine, Identity, Scale

import ipar
from tests.spatial.conftest import moved, spots

BLOCK = 40  # pixels of the finest resolution


@pytest.fixture
def pictured(query):
    """A Visium section as a reader gives it with its images, and the colours of the blocks of these."""
    query.obsm["spatial"] = np.random.default_rng(0).uniform(45, 355, size=(query.n_obs, 2))
    query.obsm["X_ipar"] = query.obsm["spatial"] / 100
    layout = spots(query)
    colors = np.random.default_rng(1).uniform(size=(3, 10, 10))
    colors[:, 0, :2] = 0, 1  # channels are drawn from their lowest to their highest value
    fine = np.repeat(np.repeat(colors, BLOCK, axis=1), BLOCK, axis=2)
    for name, each, systems in (
        ("tissue_full_image", 1, {"tissue": Identity()}),
        ("tissue_hires_image", 5, {"tissue": Scale([5, 5], axes=("y", "x")), "tissue_downscaled_hires": Identity()}),
        ("other", 1, {"elsewhere": Identity()}),
    ):
        layout.sdata[name] = Image2DModel.parse(fine[:, ::each, ::each], dims=("c", "y", "x"), transformations=systems)
    yield layout.sdata, colors.transpose(1, 2, 0)
    plt.close("all")


def shown(figure, ax, xy):
    """Colours (n, 3) that a figure shows at places (n, 2) of an axes."""
    figure.canvas.draw()
    columns, rows = ax.transData.transform(xy).astype(int).T
    return np.asarray(figure.canvas.buffer_rgba())[::-1][rows, columns, :3] / 255


BLOCKS = np.stack(np.meshgrid(np.arange(2, 8), np.arange(2, 8)), axis=-1).reshape(-1, 2)


@pytest.mark.parametrize(
    ("system", "library_id"), [(None, None), ("tissue", "tissue_full_image"), ("tissue_downscaled_hires", None)]
)
def test_the_image_lies_below_the_cells_in_their_coordinate_system(pictured, system, library_id):
    sdata, colors = pictured
    options = {} if system is None else {"coordinate_system": system}
    figure = ipar.pl.coords(sdata, library_id=library_id, size=1e-3, return_fig=True, **options)
    truth, prediction = figure.axes
    assert (len(truth.images), len(prediction.images)) == (1, 0)
    assert truth.get_title() == "truth"
    centres = (BLOCKS + 0.5) * BLOCK * (0.2 if system == "tissue_downscaled_hires" else 1)
    np.testing.assert_allclose(shown(figure, truth, centres), colors[BLOCKS[:, 1], BLOCKS[:, 0]], atol=0.02)
    alone = ipar.pl.coords(sdata, img=False, size=1e-3, return_fig=True, **options)
    assert not alone.axes[0].images
    assert alone.axes[0].get_xlim() == truth.get_xlim()
    assert alone.axes[0].get_ylim() == truth.get_ylim()[::-1]


def test_a_turned_image_is_drawn_where_its_transformation_takes_it(pictured):
    sdata, colors = pictured
    affine = np.array([[0.0, -1.0, 400.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    sdata["turned"] = Image2DModel.parse(
        np.repeat(np.repeat(colors.transpose(2, 0, 1), BLOCK, axis=1), BLOCK, axis=2),
        dims=("c", "y", "x"),
        transformations={"tissue": Affine(affine, input_axes=("x", "y"), output_axes=("x", "y"))},
    )
    figure = ipar.pl.coords(sdata, library_id="turned", size=1e-3, return_fig=True)
    centres = moved((BLOCKS + 0.5) * BLOCK, affine)
    np.testing.assert_allclose(shown(figure, figure.axes[0], centres), colors[BLOCKS[:, 1], BLOCKS[:, 0]], atol=0.02)


def test_what_is_asked_for_must_be_there(pictured):
    sdata, _ = pictured
    with pytest.raises(
        KeyError, match=r"no image 'other' in 'tissue', found \['tissue_full_image', 'tissue_hires_image'\]"
    ):
        ipar.pl.coords(sdata, library_id="other")
    bare = sd.SpatialData(shapes={"tissue": sdata["tissue"]}, tables={"table": sdata["table"]})
    assert not ipar.pl.coords(bare, return_fig=True).axes[0].images
    with pytest.raises(KeyError, match="no image of these cells"):
        ipar.pl.coords(bare, img=True)
