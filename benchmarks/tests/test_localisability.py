from __future__ import annotations

import json

import pandas as pd
import pytest

from benchmarks import localisability


def runs(seed, *verdicts):
    """One run for every pair of what is explained and what the verdict was."""
    rows = [{"seed": seed, "explained": e, "localisable": v} for e, v in verdicts]
    return pd.DataFrame(rows).assign(kind="layers, depth", grade="any", repeats=False, repeated=0.0)


def test_rates_keep_seeds_that_choices_knew_apart_from_others():
    seen, unseen = localisability.SET_ON[0], max(localisability.SET_ON) + 1
    table = localisability.table_of_rates(
        pd.concat(
            [
                runs(seen, (0.5, 1.0), (0.1, 1.0), (0.1, 0.0)),
                runs(unseen, (0.5, 0.0), (0.25, 1.0), (0.5, 0.0), (0.2, 0.0)),
            ]
        )
    )
    assert table[0].endswith(f"(seeds {seen}) | no choice knows them (seeds {unseen}) |")
    assert "| miss: passed, although it cannot be localised | 1 of 2 | 0 of 1 |" in table
    assert "| false alarm: refused, although it can | 0 of 1 | 2 of 3 |" in table
    assert "| tissue without repeats called repeated | 0 of 3 | 0 of 4 |" in table


def test_wrong_verdicts_are_named():
    said = localisability.wrong(runs(3, (0.5, 0.0), (0.1, 1.0), (0.5, 1.0)))
    assert "seed 3 (refused, 0.50 explained)" in said
    assert "seed 3 (passed, 0.10 explained)" in said
    assert said.count("seed 3") == 2


@pytest.mark.parametrize("tissue", localisability.TISSUES[::6], ids=lambda tissue: tissue.kind)
def test_a_run_has_what_the_page_shows(tissue, monkeypatch):
    monkeypatch.setattr(localisability, "N_CELLS", 60)
    found = localisability.run_one(tissue, 0)
    json.dumps(found)
    assert set(localisability.SHOWN) <= set(found)
    assert -1 < found["explained"] <= 1
    assert localisability.rates(pd.DataFrame([found]))
