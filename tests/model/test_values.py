"""What the values of slides are, and values of another scale brought to that of a model."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from ipar._chunks import as_rows
from ipar._scaling import Target
from ipar._scaling import on_one_scale as rows_on_one_scale
from ipar.model.scale import ExpressionScale, Tolerance
from ipar.model.values import Form, Recognition

N, GENES = 200, 400
NAMES = pd.Index([f"g{i}" for i in range(GENES)])
SUBSET = np.arange(GENES) % 4 == 0  # as of highly variable genes: cells no longer have one total
BASES = {"natural": np.e, "binary": 2.0, "decimal": 10.0}


def on_one_scale(matrix, *args, **options):
    return rows_on_one_scale(as_rows(matrix), *args, **options).whole()


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(0)
    rates = rng.gamma(0.3, 2.0, size=GENES) * rng.gamma(2.0, 1.0, size=(N, GENES))
    rates *= rng.lognormal(np.log(1500), 0.5, size=(N, 1)) / rates.sum(1, keepdims=True)
    return rng.poisson(rates).astype(np.float64)


def scaled(counts, total=1e4):
    return counts * (total / counts.sum(1, keepdims=True))


def csr(x):
    return sparse.csr_matrix(x, dtype=np.float32)


def ambient(counts):
    """Counts less a tenth of what is in all cells."""
    return np.maximum(counts - 0.1 * counts.mean(0), 0)


def smoothed(counts):
    return np.random.default_rng(1).dirichlet(np.ones(20), N) @ np.log1p(scaled(counts))[:20]


FORMS = {
    "log1p": (lambda c: np.log1p(scaled(c)), Form("logarithms", np.e)),
    "log1p of CPM": (lambda c: np.log1p(scaled(c, 1e6)), Form("logarithms", np.e)),
    "log1p of few": (lambda c: np.log1p(scaled(c, 1.0)), Form("logarithms", np.e)),
    "log2": (lambda c: np.log2(1 + scaled(c)), Form("logarithms", 2.0)),
    "log10": (lambda c: np.log10(1 + scaled(c)), Form("logarithms", 10.0)),
    "not logged": (scaled, Form("normalised")),
    "fractions": (lambda c: scaled(c, 1.0), Form("normalised")),
    "logged twice": (lambda c: np.log1p(np.log1p(scaled(c))), Form("logged twice")),
    "counts": (lambda c: c, Form("counts")),
    "binary": (lambda c: np.minimum(c, 1), Form("binary")),
    "ambient": (ambient, Form("fractional counts")),
    "smoothed": (smoothed, Form("logarithms")),
    "empty": (lambda c: 0 * c, Form("empty")),
    "counts beside logarithms": (
        lambda c: np.where(np.arange(N)[:, None] % 4 == 0, c, np.log1p(scaled(c))),
        Form("mixed"),
    ),
}


@pytest.mark.parametrize("genes", ["all", "some"])
@pytest.mark.parametrize("name", list(FORMS))
def test_every_form_is_recognised(counts, name, genes):
    make, expected = FORMS[name]
    values = make(counts)
    assert Recognition().of(csr(values if genes == "all" else values[:, SUBSET])).form == expected


@pytest.mark.parametrize("name", ["log1p", "log2", "log10", "logged twice", "not logged", "counts"])
def test_linear_values_are_those_before_the_logarithms(counts, name):
    make, form = FORMS[name]
    expected = counts if name == "counts" else scaled(counts)
    np.testing.assert_allclose(form.linear(make(counts)), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("n", [1, 3])
def test_a_cell_alone_tells_its_base(counts, n):
    for base in BASES.values():
        logs = csr(np.log1p(scaled(counts))[:n] / np.log(base))
        assert Recognition().of(logs).form == Form("logarithms", base)


def test_values_of_low_precision_are_recognised(counts):
    rounded = csr(np.round(np.log2(1 + scaled(counts)), 3))
    assert Recognition().of(rounded).form == Form("logarithms", 2.0)
    half = csr(np.log1p(scaled(counts)).astype(np.float16))
    assert Recognition().of(half).form == Form("logarithms", np.e)


def test_noise_has_no_base():
    """Whatever the seed: a wrong guess would change what is right."""
    for seed in range(30):
        noise = csr(np.random.default_rng(seed).gamma(1.0, 1.0, size=(60, 50)))
        assert Recognition().of(noise).form == Form("logarithms")


def test_totals_are_those_of_the_genes_that_are_compared(counts):
    logs = csr(np.log1p(scaled(counts)))
    found = Recognition().of(logs, SUBSET)
    assert found.whole == pytest.approx(1e4, rel=1e-4)
    assert found.whole_even
    assert found.total == pytest.approx(np.median(scaled(counts)[:, SUBSET].sum(1)), rel=1e-4)
    assert not found.even


@pytest.fixture
def scale(counts):
    return ExpressionScale.of([csr(np.log1p(scaled(counts)))])


def test_a_scale_by_hand(counts, scale):
    assert scale.total == pytest.approx(1e4, rel=1e-4)
    assert scale.even
    assert scale.base == np.e
    assert scale.largest == pytest.approx(np.log1p(scaled(counts)).max(), rel=1e-6)
    np.testing.assert_allclose(scale.means, scaled(counts).mean(0), rtol=1e-4)
    assert scale.total_of(SUBSET) == pytest.approx(scaled(counts)[:, SUBSET].sum(1).mean(), rel=1e-4)


def test_a_scale_survives_its_state(scale):
    config, arrays = scale.state()
    back = ExpressionScale.from_state(json.loads(json.dumps(config)), arrays)
    assert back.state()[0] == config
    assert np.array_equal(back.means, scale.means)


def one_slide(n):
    return pd.Categorical(["s"] * n)


@pytest.fixture
def convert(scale):
    """Bring values to the scale; gives the values and what was said."""

    def run(matrix, labels=None, target=None):
        target = target or Target.of_model(scale, NAMES, NAMES)
        labels = one_slide(matrix.shape[0]) if labels is None else labels
        before = matrix.copy()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = on_one_scale(matrix, labels, target, raw=False)
        assert np.array_equal(before.data, matrix.data)
        return found, [str(one.message) for one in said]

    return run


@pytest.mark.parametrize("total", [1e4, 7e3, 1.4e4])
def test_what_does_not_differ_is_the_same_object(counts, convert, total):
    matrix = csr(np.log1p(scaled(counts, total)))
    found, said = convert(matrix)
    assert found is matrix
    assert said == []


@pytest.mark.parametrize(
    "name", ["log1p of CPM", "log1p of few", "log2", "log10", "not logged", "fractions", "logged twice", "counts"]
)
def test_exact_conversions(counts, convert, name):
    found, said = convert(csr(FORMS[name][0](counts)))
    np.testing.assert_allclose(found.toarray(), np.log1p(scaled(counts)), rtol=2e-4, atol=2e-4)
    assert len(said) == 1
    assert "median total 10,000 per cell" in said[0]


def test_fractional_counts_become_totals_of_the_model(counts, convert):
    found, said = convert(csr(ambient(counts)))
    np.testing.assert_allclose(found.toarray(), np.log1p(scaled(ambient(counts))), rtol=1e-4, atol=1e-5)
    assert "fractional counts, as of a correction for ambient RNA" in said[0]


@pytest.mark.parametrize("base", list(BASES.values()))
def test_the_models_own_base_is_kept(counts, convert, base):
    """A model of log2 values gets log2 values."""
    own = ExpressionScale.of([csr(np.log1p(scaled(counts)) / np.log(2))])
    target = Target.of_model(own, NAMES, NAMES)
    found, said = convert(csr(np.log1p(scaled(counts)) / np.log(base)), target=target)
    np.testing.assert_allclose(found.toarray(), np.log2(1 + scaled(counts)), rtol=1e-5, atol=1e-5)
    assert len(said) == (base != 2)


@pytest.mark.parametrize("name", ["log1p of CPM", "log2", "not logged", "logged twice", "counts"])
def test_genes_that_were_chosen_before_the_fit(counts, convert, name):
    """Totals of some genes differ by cell; over all genes of the query they go to the power of ten that was theirs."""
    own = ExpressionScale.of([csr(np.log1p(scaled(counts))[:, SUBSET])])
    target = Target.of_model(own, NAMES[SUBSET], NAMES)
    found, said = convert(csr(FORMS[name][0](counts)), target=target)
    np.testing.assert_allclose(found.toarray(), np.log1p(scaled(counts)), rtol=2e-4, atol=1e-5)
    assert len(said) == 1


@pytest.mark.parametrize("share", [0.2, 5.0])
def test_depth_is_not_a_scale(counts, convert, share):
    """Cells sequenced more or less deeply have the same totals once they are normalised."""
    deep = np.random.default_rng(2).poisson(counts * share)
    matrix = csr(np.log1p(scaled(deep[deep.sum(1) > 20])))
    assert convert(matrix)[0] is matrix


def test_totals_of_few_cells_say_nothing(counts, convert):
    few = np.log1p(scaled(counts)[:4])
    few[:, SUBSET] = 0  # most of their expression
    matrix = csr(few)
    assert convert(matrix)[0] is matrix


@pytest.mark.parametrize("name", ["fractions", "counts", "log2", "logged twice", "not logged"])
def test_single_cells_are_converted(counts, convert, name):
    found, _ = convert(csr(FORMS[name][0](counts)[:2]))
    np.testing.assert_allclose(found.toarray(), np.log1p(scaled(counts))[:2], rtol=2e-3, atol=1e-3)


def test_every_slide_is_read_by_itself(counts, convert):
    logs, cells = np.log1p(scaled(counts)), np.arange(N)
    mixed = logs.copy()
    mixed[cells % 3 == 1] = counts[cells % 3 == 1]
    mixed[cells % 3 == 2] = np.log2(1 + scaled(counts))[cells % 3 == 2]
    labels = pd.Categorical(np.array(["a", "b", "c"])[cells % 3])
    found, said = convert(csr(mixed), labels)
    np.testing.assert_allclose(found.toarray(), logs, rtol=1e-4, atol=1e-4)
    assert np.array_equal(found.toarray()[cells % 3 == 0], csr(logs).toarray()[cells % 3 == 0])
    assert ["slide 'b' looks like raw counts" in said[0], "slide 'c' looks like logarithms to base 2" in said[1]] == [
        True,
        True,
    ]


@pytest.mark.parametrize("other", ["log1p of CPM", "log2", "counts", "logged twice", "fractions"])
def test_training_slides_go_to_the_scale_of_most(counts, other):
    cells = np.arange(N) % 3 == 0
    mixed = np.log1p(scaled(counts))
    mixed[cells] = FORMS[other][0](counts)[cells]
    labels = pd.Categorical(np.where(cells, "odd", np.where(np.arange(N) % 3 == 1, "x", "y")))
    with pytest.warns(
        UserWarning, match="Expression of slide 'odd' looks like .*The scale of the other slides is natural"
    ):
        found = on_one_scale(csr(mixed), labels, None, raw=False)
    np.testing.assert_allclose(found.toarray(), np.log1p(scaled(counts)), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", ["log1p", "log2", "log10", "smoothed", "binary"])
def test_training_slides_of_one_scale_stay(counts, name):
    matrix = csr(FORMS[name][0](counts))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert on_one_scale(matrix, one_slide(N), None, raw=False) is matrix


@pytest.mark.parametrize(("raw", "start"), [(True, r"adata\.raw\.to_adata\(\)"), (False, "the counts")])
def test_binary_values_are_refused_with_the_remedy(counts, scale, raw, start):
    target = Target.of_model(scale, NAMES, NAMES)
    message = rf"0 and 1 alone.*total 10,000.*start from {start}: call sc\.pp\.normalize_total\(adata, target_sum=10000\), then sc"
    with pytest.raises(ValueError, match=message):
        on_one_scale(csr(np.minimum(counts, 1)), one_slide(N), target, raw)


def test_a_model_of_binary_values(counts, convert):
    matrix = csr(np.minimum(counts, 1))
    target = Target.of_model(ExpressionScale.of([matrix]), NAMES, NAMES)
    assert convert(matrix, target=target)[0] is matrix
    with pytest.raises(ValueError, match="0 and 1 alone, but expression looks like raw counts"):
        convert(csr(counts), target=target)


def test_a_base_that_cannot_be_told_is_not_guessed(counts, convert):
    matrix = csr(smoothed(counts))
    assert convert(matrix) == (matrix, [])
    found, said = convert(csr(3 * smoothed(counts)))
    np.testing.assert_array_equal(found.toarray(), csr(3 * smoothed(counts)).toarray())
    assert "base of the logarithms cannot be told, and nothing was changed" in said[0]


def test_tolerances_are_fields(counts, scale):
    own = Recognition().of(csr(np.log1p(scaled(counts, 1.2e4))))
    present = np.ones(GENES, dtype=bool)
    assert scale.difference(own, present) is None
    assert scale.difference(own, present, Tolerance(even=1.1)).factor == pytest.approx(1 / 1.2, rel=1e-4)
