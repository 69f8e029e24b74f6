from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from benchmarks.ablations import components, groups
from benchmarks.ablations.fits import fit, map_of, read, sized
from benchmarks.tasks.tasks import Slides


@pytest.mark.parametrize("group", ["weights", "axes"])
def test_nothing_but_the_components_differs(slides, hasty_recipe, names_of, group):
    recipe, ways = replace(hasty_recipe, n_pcs=(6, 8)), {"weights": components.WEIGHTS, "axes": components.AXES}[group]
    found = dict(components.layouts(slides, 0, ways, recipe))
    assert list(found) == names_of(group)
    known, query = read(slides)
    for name, changes in ways.items():
        changed = replace(recipe, **changes)
        alone = fit(known, replace(changed, n_pcs=changed.sizes[0]), 0)  # few cells teach
        np.testing.assert_allclose(found[name], map_of(alone, query), atol=1e-4)
    assert not np.allclose(*list(found.values())[:2], atol=1e-3)


def test_many_cells_teach_more_components(slide_set, hasty_recipe, monkeypatch):
    recipe = replace(hasty_recipe, n_pcs=(5, 7))
    assert sized(recipe, slide_set).n_pcs == 5
    monkeypatch.setattr("benchmarks.ablations.fits.MANY_CELLS", 100)
    assert sized(recipe, slide_set).n_pcs == 7


def test_a_share_is_trained_as_if_it_were_alone(slides, hasty_recipe, names_of):
    found = dict(components.layouts_of_panels(slides, 0, hasty_recipe))
    assert list(found) == names_of("panels", "embryo")
    known, query = read(slides)
    for name, share in components.DROPPED.items():
        recipe = replace(hasty_recipe, genes_input_dropout=share, panel_input_dropout=share)
        np.testing.assert_allclose(found[name], map_of(fit(known, recipe, 0), query), atol=1e-4)
    assert not np.allclose(found["a half dropped"], found["a fifth dropped"], atol=1e-3)


def test_the_panel_holds_the_genes_that_vary_most_within_slides(slides, monkeypatch):
    monkeypatch.setattr(components, "N_GENES", 4)
    rng = np.random.default_rng(0)
    x = rng.random(slides.train.shape).astype(np.float32)
    x[:, [1, 3, 4, 8]] *= 5
    x[(slides.train.obs["slide"] == "MOB1").to_numpy(), 0] += 30  # varies between slides only
    train = slides.train.copy()
    train.X = sparse.csr_matrix(x)
    found = components.as_panel(Slides(train, slides.query, slides.truth))
    assert list(found.train.var_names) == list(slides.train.var_names[[1, 3, 4, 8]])
    assert list(found.query.var_names) == list(found.train.var_names)


def test_rows_are_named_by_what_teaches(slides, monkeypatch):
    monkeypatch.setattr(components, "layouts_of_panels", lambda one, seed: iter([("one", one.truth)]))
    monkeypatch.setattr(groups, "load", lambda *_, **__: slides)
    assert list(groups.by_panel("brain5", 0, None)["layouts"]) == ["sections, 350 genes: one"]
    assert list(groups.by_panel("embryo1", 0, None)["layouts"]) == ["half of an embryo: one"]
    by_kind = groups.layouts_by(lambda one, seed: iter([("one", one.truth)]), kinds=True)
    found = {fold: by_kind(fold, 0, None)["layouts"] for fold in ("brain2", "embryo1")}
    assert [list(one) for one in found.values()] == [["2 sections teach: one"], ["half of an embryo: one"]]
    assert found["brain2"]["2 sections teach: one"]["luna_spearman"] == pytest.approx(1)
