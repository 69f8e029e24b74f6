"""Every row of the table: what is refused says what was found and the remedy, and what works leaves the rest alone."""

from __future__ import annotations

import copy

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from tests.matrix.calls import CALLS, Call
from tests.matrix.inputs import INPUTS
from tests.matrix.outcomes import Row, changes, check, remember, written
from tests.matrix.table import PAIRS, ROWS
from tests.matrix.world import World


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_row(world, row, capsys):
    call = CALLS[row.call]
    given = _input(world, call, row)
    before = remember(given) if isinstance(given, ad.AnnData) else copy.deepcopy(given)
    found = check(row, lambda: call.run(world, given, **row.options))
    if call.base == "files":
        return
    if not isinstance(given, ad.AnnData):
        assert changes(remember(before), remember(given)) == set()
        _check_finite(found)
        return
    new = written(changes(before, remember(given)))
    if row.outcome.error is not None:
        assert new == set()
        return
    assert {one for one in new if not one.startswith(call.writes or ("nothing",))} == set()
    if call.copies and "copy" not in row.options:
        again = _input(world, call, row)
        untouched = remember(again)
        copied = check(row, lambda: call.run(world, again, copy=True, **row.options))
        assert changes(untouched, remember(again)) == set()
        assert isinstance(copied, ad.AnnData)
    if row.input == "as it is":
        for one in new - {path for path in new if path.startswith("uns")}:
            kind, key = one.split("/")
            _check_finite(getattr(given, kind)[key])


def _input(world: World, call: Call, row: Row):
    if call.base == "files":
        return row.input.split()
    if call.base == "none":
        return None
    if call.base == "pair":
        return PAIRS[row.input](world.pair())
    return INPUTS[row.input](getattr(world, call.base).copy())


def _check_finite(found):
    if isinstance(found, dict):
        for name, value in found.items():
            if not (name.endswith(("_whole", "_walk", "_stress")) or "50" in name):
                _check_finite(value)
    elif isinstance(found, np.ndarray | float) and np.asarray(found).dtype.kind == "f":
        assert np.isfinite(found).all()
    elif isinstance(found, pd.Series) and found.dtype.kind == "f":
        assert np.isfinite(found).all()


def test_the_table_is_large_and_has_no_row_twice():
    names = [str(row) for row in ROWS]
    assert len(ROWS) >= 250
    assert len({*names}) == len(names)


def test_every_public_function_has_a_row():
    import inspect

    import ipar

    with_rows = {row.call.split(" ")[0] for row in ROWS}
    for module in ("pp", "tl", "pl"):
        public = getattr(ipar, module)
        functions = {f"{module}.{name}" for name in public.__all__ if inspect.isfunction(getattr(public, name))}
        assert functions <= with_rows, functions - with_rows
