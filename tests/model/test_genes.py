"""Genes of data matched with those of a model by their names."""

from __future__ import annotations

import warnings

import pandas as pd
import pytest

from ipar.model.genes import Naming, unique_names

SYMBOLS = pd.Index(["Actb", "Gapdh", "Sox2", "Pax6", "Foxp2", "Rprm"])
ENSEMBL = pd.Index([f"ENSMUSG{i:011}" for i in range(6)])


def matched(genes, known=SYMBOLS, columns=None):
    return Naming().matched(pd.Index(genes), known, columns)


def test_exact_names_are_the_same_object():
    genes = SYMBOLS[::-1].append(pd.Index(["other", "ACTB"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Naming().matched(genes, SYMBOLS) is genes


@pytest.mark.parametrize(
    ("known", "change", "named"),
    [
        (SYMBOLS, str.upper, "upper and lower case"),
        (SYMBOLS, lambda name: f" {name} ", "spaces around names"),
        (SYMBOLS, lambda name: f"mm10___{name}", "prefixes of genome assemblies"),
        (SYMBOLS, lambda name: f"GRCh38_{name}", "prefixes of genome assemblies"),
        (SYMBOLS, lambda name: f"hg19_{name}", "prefixes of genome assemblies"),
        (ENSEMBL, lambda name: f"{name}.7", "versions of Ensembl ids"),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_other_spellings_are_matched_and_named(known, change, named, swapped):
    genes, own = known, pd.Index([change(name) for name in known])
    genes, own = (own, genes) if swapped else (genes, own)
    with pytest.warns(UserWarning, match=rf"6 of the model's 6 genes .* ignoring {named}") as said:
        found = matched(own, genes)
    assert found.tolist() == genes.tolist()
    assert len(said) == 1
    assert said[0].filename == __file__
    assert f"{own[0]!r} was taken for {genes[0]!r}" in str(said[0].message)


def test_spellings_add_up():
    own = [f" mm10___{name}.12" for name in ENSEMBL[:5]] + [f" mm10___{ENSEMBL[5].lower()}"]
    with pytest.warns(UserWarning, match="5 of the model's 6 genes .*versions of Ensembl ids") as said:
        assert matched(own, ENSEMBL).tolist() == ENSEMBL.tolist()
    assert "1 of the model's 6 genes were found only by ignoring upper and lower case" in str(said[1].message)


def test_case_only_differences_are_matched_though_enough_are_exact():
    own = ["Actb", "Gapdh", "Sox2", "Pax6", "foxp2", "other"]
    with pytest.warns(
        UserWarning, match=r"1 of the model's 6 genes .*'foxp2' was taken for 'Foxp2'\. Symbols of mouse"
    ):
        assert matched(own).tolist() == ["Actb", "Gapdh", "Sox2", "Pax6", "Foxp2", "other"]


def test_exact_names_win_and_the_first_of_several_is_taken():
    own = ["ACTB", "Actb", "gapdh", "GAPDH", "Sox2", "Pax6", "Foxp2", "Rprm"]
    with pytest.warns(UserWarning, match=r"'gapdh' was taken for 'Gapdh'\. 1 other genes"):
        found = matched(own)
    assert found.tolist() == ["ACTB", "Actb", "Gapdh", "GAPDH", "Sox2", "Pax6", "Foxp2", "Rprm"]
    assert found.is_unique


def test_clones_are_no_versions():
    """AC012345.1 and AC012345.2 are two genes."""
    known = pd.Index(["AC012345.1", *SYMBOLS])
    own = pd.Index(["AC012345.2", *SYMBOLS])
    assert Naming().matched(own, known).tolist() == own.tolist()


def test_a_column_with_the_names_is_suggested():
    columns = pd.DataFrame(
        {"length": range(6), "feature_type": ["gene"] * 6, "feature_name": SYMBOLS.str.upper()}, index=ENSEMBL
    )
    with pytest.raises(
        ValueError, match=r"adata\.var\['feature_name'\] has 6 of these 6: pass gene_key='feature_name'"
    ):
        matched(ENSEMBL, SYMBOLS, columns)
    with pytest.raises(ValueError, match="pass gene_key='feature_name'"):
        matched(ENSEMBL, SYMBOLS, columns.astype({"feature_name": "category"}))
    with pytest.raises(ValueError, match="Only 0 of the model's 6 genes are in the data"):
        matched(ENSEMBL, SYMBOLS, columns.drop(columns="feature_name"))


def test_names_that_repeat_are_made_unique():
    with pytest.warns(UserWarning, match="2 names in the file repeat, such as 'a'"):
        assert unique_names(pd.Index(["a", "b", "a", "a-0", "a"]), "the file").tolist() == [
            "a",
            "b",
            "a-1",
            "a-0",
            "a-2",
        ]
    names = pd.Index(["a", "b"])
    assert unique_names(names, "the file") is names
