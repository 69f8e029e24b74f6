from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import torch
from scipy import sparse

import lever_adaptation
from ipar._expression import Expression
from ipar.nn import SharedEncoder
from ipar.training import EncoderRecipe, EncoderTraining
from ipar.training.encoder import Slide, fit_encoder

GENES = pd.Index([f"g{i}" for i in range(12)])
FEW = EncoderTraining(n_steps=3, batch_size=32)
RECIPE = EncoderRecipe(n_pcs=6, n_output=8, pca_hidden=(8,), genes_hidden=(8,), pca_training=FEW, genes_training=FEW)


def tissue(seed, n=90):
    rng = np.random.default_rng(seed)
    x = sparse.csr_matrix(np.log1p(rng.poisson(3.0, size=(n, 12))).astype(np.float32))
    return Slide(x, rng.random((n, 2)).astype(np.float32), f"s{seed}")


def test_a_discriminator_has_no_easy_way_left(monkeypatch):
    monkeypatch.setattr(lever_adaptation, "_ADVERSARIAL_LR", 3e-3)
    torch.manual_seed(0)
    net = SharedEncoder(6, hidden=(16,), n_output=4).eval()
    known = np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32)
    shifted = known[:200] + 2.0  # another technology: every component is higher
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = lever_adaptation.adapted(net, known, shifted)
    with torch.no_grad():
        real = net(torch.from_numpy(known)).numpy()
        raw, made = (one(torch.from_numpy(shifted)).numpy() for one in (net, found))
    gap = np.linalg.norm(raw.mean(0) - real.mean(0))
    assert gap > 0.1
    assert np.linalg.norm(made.mean(0) - real.mean(0)) < gap / 2
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_query_alone_gets_networks_of_its_own():
    slides = [tissue(0), tissue(1)]
    encoder = fit_encoder(slides, GENES, ["both"], RECIPE)["both"]
    before = [{k: v.clone() for k, v in part.net.state_dict().items()} for part in encoder.parts]
    state = torch.get_rng_state()
    query = Expression(tissue(2).expression, GENES)
    found = lever_adaptation.adversarial(encoder, slides, query, 0)
    assert torch.equal(state, torch.get_rng_state())
    for part, own, old in zip(encoder.parts, found.parts, before, strict=True):
        assert all(torch.equal(v, old[k]) for k, v in part.net.state_dict().items())
        assert any(not torch.equal(v, old[k]) for k, v in own.net.state_dict().items())
        assert part.source == own.source


def test_pretraining_starts_from_other_slides_and_ends_on_these():
    slides = [tissue(0), tissue(1)]
    other = [
        ad.AnnData(
            s.expression,
            obs=pd.DataFrame({"slide": [s.name] * 90}, index=[f"{s.name}{i}" for i in range(90)]),
            var=pd.DataFrame(index=GENES),
            obsm={"spatial": s.coords},
        )
        for s in (tissue(5), tissue(6))
    ]
    still = replace(RECIPE, genes_training=replace(FEW, lr=0.0, weight_decay=0.0))
    scratch = fit_encoder(slides, GENES, ["genes"], RECIPE)["genes"].parts[0].net
    first, second = (lever_adaptation.pretrained_on(part, slides, RECIPE, 0) for part in ([other[0]], other))
    unmoved = lever_adaptation.pretrained_on(other, slides, still, 0)
    initial = fit_encoder(slides, GENES, ["genes"], still)["genes"].parts[0].net

    def flat(net):
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    torch.testing.assert_close(flat(unmoved), flat(initial))  # no step, neither there nor here
    assert not torch.allclose(flat(second), flat(scratch))
    assert not torch.allclose(flat(first), flat(second))  # what else it was taught tells
