"""The image of the tissue below true positions."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from ipar.pl import coords

SCALE = 0.05  # the cells lie within 300 by 200 units


@pytest.fixture
def pictured(predicted):
    """Cells over an image of large pixels of random colours, and the pixels."""
    pixels = np.random.default_rng(0).uniform(size=(12, 16, 3)).astype(np.float32)
    factors = {"tissue_hires_scalef": SCALE, "tissue_lowres_scalef": SCALE / 2}
    images = {"lowres": pixels[::2, ::2], "hires": pixels}
    predicted.uns["spatial"] = {"v1": {"images": images, "scalefactors": factors}}
    return predicted, pixels


def images(figure):
    return [len(ax.images) for ax in figure.axes]


def test_the_truth_lies_over_the_image_at_its_scale(pictured, shown_at):
    adata, pixels = pictured
    figure = coords(adata, size=1e-3, return_fig=True)
    assert images(figure) == [1, 0]
    centres = np.stack(np.meshgrid(np.arange(1, 15), np.arange(1, 10)), axis=-1).reshape(-1, 2)
    shown = shown_at(figure, figure.axes[0], (centres + 0.5) / SCALE)
    np.testing.assert_allclose(shown, pixels[centres[:, 1], centres[:, 0]], atol=0.02)


def test_cells_and_views_stay_and_all_panels_run_down(pictured):
    adata, _ = pictured
    with_image, without = (coords(adata, img=img, error=True, return_fig=True) for img in (None, False))
    assert images(without)[:3] == [0, 0, 0]
    for one, other in zip(with_image.axes[:3], without.axes[:3], strict=True):
        np.testing.assert_array_equal(one.collections[0].get_offsets(), other.collections[0].get_offsets())
        assert one.get_xlim() == other.get_xlim()
        assert one.get_ylim() == other.get_ylim()[::-1]
        assert one.get_title() == other.get_title()
        assert one.get_aspect() == 1


def test_every_row_of_colours_has_the_image(pictured):
    adata, _ = pictured
    adata.obs["kind"] = pd.Categorical(["p", "q"] * 60)
    figure = coords(adata, ["kind", "ipar_uncertainty"], return_fig=True)
    assert images(figure)[:4] == [1, 0, 1, 0]


def test_each_slide_has_the_image_of_its_name(pictured):
    adata, pixels = pictured
    adata.obs["slide"] = pd.Categorical(["v1", "v2", "v3"] * 40)
    library = adata.uns["spatial"]["v1"]
    adata.uns["spatial"]["v2"] = library | {"images": {"hires": pixels[..., 0]}}
    shapes = {}
    for slide in ("v1", "v2", "v3"):
        ax = coords(adata, slide=slide, return_fig=True).axes[0]
        shapes[slide] = [image.get_array().shape for image in ax.images]
    assert shapes == {"v1": [(12, 16, 3)], "v2": [(12, 16)], "v3": []}
    (other,) = coords(adata, slide="v3", library_id="v2", return_fig=True).axes[0].images
    assert other.get_array().shape == (12, 16)


def test_what_is_asked_for_must_be_there(pictured):
    adata, _ = pictured
    with pytest.raises(KeyError, match=r"has no 'v9', found \['v1'\]: name one of these as library_id"):
        coords(adata, library_id="v9")
    del adata.uns["spatial"]["v1"]["images"]
    assert images(coords(adata, return_fig=True)) == [0, 0]
    with pytest.raises(KeyError, match="no image of these cells.*leave img=None"):
        coords(adata, img=True)
    figure, axes = plt.subplots(1, 2)
    assert coords(adata, ax=axes, return_fig=True) is figure
