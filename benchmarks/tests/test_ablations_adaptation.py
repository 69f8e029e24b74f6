from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from benchmarks.ablations import adaptation
from ipar.nn import SharedEncoder
from ipar.training import Run, SlideSet
from ipar.training.encoder import fit_encoder


def test_a_discriminator_has_no_easy_way_left():
    torch.manual_seed(0)
    net = SharedEncoder(6, hidden=(16,), n_output=4).eval()
    known = np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32)
    shifted = known[:200] + 2.0  # another technology: every component is higher
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = adaptation.adapted(net, known, shifted, lr=3e-3)
    with torch.no_grad():
        real = net(torch.from_numpy(known)).numpy()
        raw, made = (one(torch.from_numpy(shifted)).numpy() for one in (net, found))
    gap = np.linalg.norm(raw.mean(0) - real.mean(0))
    assert gap > 0.1
    assert np.linalg.norm(made.mean(0) - real.mean(0)) < 0.75 * gap  # how near it comes depends on rounding
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_query_alone_gets_networks_of_its_own(slide_set, cells, hasty_recipe):
    encoder = fit_encoder(slide_set, ["both"], hasty_recipe, Run())["both"]
    before = [{k: v.clone() for k, v in part.net.state_dict().items()} for part in encoder.parts]
    state = torch.get_rng_state()
    found = adaptation.adversarial(encoder, slide_set, cells(2), 0)
    assert torch.equal(state, torch.get_rng_state())
    for part, own, old in zip(encoder.parts, found.parts, before, strict=True):
        assert all(torch.equal(v, old[k]) for k, v in part.net.state_dict().items())
        assert any(not torch.equal(v, old[k]) for k, v in own.net.state_dict().items())
        assert part.source == own.source


def test_what_networks_read_is_what_the_encoder_gives_them(slide_set, hasty_recipe):
    encoder = fit_encoder(slide_set, ["pca"], hasty_recipe, Run())["pca"]
    slide = slide_set[0]
    with torch.no_grad():
        h = encoder.parts[0].net(torch.from_numpy(adaptation.read_by(encoder, slide)["pca"])).numpy()
    expected = encoder.transform(slide.expression, encoder.genes, slide.labels)
    for own, whole in zip(np.split(h, 2, axis=1), np.split(expected, 2, axis=1), strict=True):
        ratio = whole / own  # each half is scaled as a whole
        np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-3)


def test_pretraining_starts_from_other_slides_and_ends_on_these(slide_set, cells, hasty_recipe):
    one, two = (SlideSet(tuple(cells(i) for i in numbers), slide_set.genes) for numbers in ((5,), (5, 6)))
    still = replace(hasty_recipe, genes_training=replace(hasty_recipe.genes_training, lr=1e-12, weight_decay=0.0))
    scratch, initial = (
        fit_encoder(slide_set, ["genes"], recipe, Run())["genes"].parts[0].net for recipe in (hasty_recipe, still)
    )
    first, second = (adaptation.pretrained_on(others, slide_set, hasty_recipe, 0) for others in (one, two))
    unmoved = adaptation.pretrained_on(two, slide_set, still, 0)

    def flat(net):
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    torch.testing.assert_close(flat(unmoved), flat(initial))  # no step, neither there nor here
    assert not torch.allclose(flat(second), flat(scratch))
    assert not torch.allclose(flat(first), flat(second))  # what else it was taught tells


def test_layouts_have_the_names_of_the_records(slides, monkeypatch, hasty_recipe, names_of):
    others = SlideSet((adaptation.read(slides)[0][0],), slides.train.var_names)
    monkeypatch.setattr(adaptation, "RECIPE", hasty_recipe)
    monkeypatch.setattr(adaptation, "other_tissues", lambda data, genes: {"liver": others})
    found = dict(adaptation.layouts(slides, 0, None))
    assert list(found) == names_of("adaptation")
    assert {x.shape for x in found.values()} == {slides.truth.shape}
