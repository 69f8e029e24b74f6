"""Values of slides brought to one scale: that of a model, or that of most training slides. What is done is said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from ipar._anndata import warn
from ipar._chunks import Rows
from ipar.graph.neighbors import cells_by_slide
from ipar.model.scale import Difference, ExpressionScale
from ipar.model.values import Recognition, Values

Found = dict[str, Difference]


@dataclass(frozen=True)
class Target:
    """The scale that slides are brought to.

    Attributes
    ----------
    scale
        The scale.
    columns
        Genes of the slides that count in totals ``(n_genes,)``; all, if None.
    present
        Genes of the scale that the slides have.
    source
        Whose scale it is, for messages.
    """

    scale: ExpressionScale
    columns: NDArray[np.bool_] | None
    present: NDArray[np.bool_]
    source: str

    @classmethod
    def of_model(cls, scale: ExpressionScale, known: pd.Index, genes: pd.Index) -> Target:
        """The scale of a model that knows some genes, for slides with others."""
        columns, present = genes.isin(known), known.isin(genes)
        return cls(scale, None if columns.all() else columns, present, "the model's scale")

    @classmethod
    def of_most(cls, slides: Sequence[sparse.csr_matrix], values: Sequence[Values]) -> Target:
        """The scale of most cells among slides of logarithms; without any, that of 10,000 per cell."""
        n_genes = slides[0].shape[1]
        everything = np.ones(n_genes, dtype=bool)
        logs = [i for i, one in enumerate(values) if one.form.kind == "logarithms" and one.form.base is not None]
        logs = logs or [i for i, one in enumerate(values) if one.form.kind in ("logarithms", "binary")]
        best, most = ExpressionScale.default(n_genes), 0
        for i in logs:
            scale = ExpressionScale.of([slides[i]])
            agree = [j for j in logs if scale.difference(values[j], everything) is None]
            if (n := sum(slides[j].shape[0] for j in agree)) > most:
                best, most = ExpressionScale.of([slides[j] for j in agree]), n
        return cls(best, None, everything, "the scale of the other slides" if most else "the default scale")


def on_one_scale(matrix: Rows, labels: pd.Categorical[Any], target: Target | None, raw: bool) -> Rows:
    """Expression of slides on one scale; the same object where nothing differs.

    Parameters
    ----------
    matrix
        Expression, without negative values. It is never written to.
    labels
        Slide of every cell.
    target
        The scale; that of most slides, if None.
    raw
        Whether ``adata.raw`` exists, for the remedy.
    """
    rows = {str(k): r for k, r in zip(labels.categories, cells_by_slide(labels, len(labels)), strict=True) if len(r)}
    if not rows:
        return matrix
    recognition = Recognition()
    samples = _samples(matrix, rows, recognition)
    columns = None if target is None else target.columns
    values = {name: recognition.of(sample, columns) for name, sample in samples.items()}
    _check_largest(matrix, rows, values, recognition.log_max)
    if target is None:
        target = Target.of_most(list(samples.values()), list(values.values()))
    compared = {name: target.scale.difference(one, target.present) for name, one in values.items()}
    differ = {name: one for name, one in compared.items() if one is not None}
    _say(differ, len(rows), target, raw)
    return _converted(matrix, rows, {name: one for name, one in differ.items() if one.action == "convert"}, target)


def _samples(
    matrix: Rows, rows: dict[str, NDArray[np.int64]], recognition: Recognition
) -> dict[str, sparse.csr_matrix]:
    """Some cells of every slide, read in one pass."""
    chosen = [recognition.sample(own) for own in rows.values()]
    ends = np.cumsum([0, *map(len, chosen)])
    cells = matrix.take(np.concatenate(chosen))
    return {name: cells[start:end] for name, start, end in zip(rows, ends[:-1], ends[1:], strict=True)}


def _check_largest(matrix: Rows, rows: dict[str, NDArray[np.int64]], values: dict[str, Values], log_max: float) -> None:
    """Raise ValueError where logarithms stand beside values that can be none."""
    if matrix.survey.largest <= log_max:
        return
    for name, own in rows.items():
        if values[name].form.kind not in ("logarithms", "logged twice"):
            continue
        largest = matrix.select(own).survey.largest
        if largest > log_max:
            who = f"Expression of slide {name!r}" if len(rows) > 1 else "Expression"
            msg = (
                f"{who} must be log-normalised, found a maximum of {largest:g}: from counts, call "
                "sc.pp.normalize_total(adata), then sc.pp.log1p(adata), or name the layer that holds log-normalised expression."
            )
            raise ValueError(msg)


def _converted(matrix: Rows, rows: dict[str, NDArray[np.int64]], differ: Found, target: Target) -> Rows:
    if not differ:
        return matrix
    slide_of = np.full(matrix.shape[0], -1)
    for i, name in enumerate(differ):
        slide_of[rows[name]] = i
    counted = np.ones(matrix.shape[1]) if target.columns is None else target.columns.astype(np.float64)

    def converted(chunk: sparse.csr_matrix, cells: NDArray[np.int64]) -> sparse.csr_matrix:
        data, sizes = chunk.data.copy(), np.diff(chunk.indptr)
        for i, one in enumerate(differ.values()):
            weights = counted if one.compared_only else np.ones(chunk.shape[1])
            totals = (chunk @ weights) if one.per_cell else np.ones(chunk.shape[0])
            own = np.repeat(slide_of[cells] == i, sizes)
            data[own] = target.scale.converted(data[own], one, np.repeat(totals, sizes)[own])
        return sparse.csr_matrix((data, chunk.indices, chunk.indptr), shape=chunk.shape)

    return matrix.map(converted)


def _say(differ: Found, n_slides: int, target: Target, raw: bool) -> None:
    """Warn of slides that differ, once per kind of difference, or raise ValueError."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name, one in differ.items():
        power = 0 if one.per_cell or not one.values.total else round(np.log10(one.values.total))
        groups.setdefault((one.action, one.values.form, power), []).append(name)
    for names in groups.values():
        first = differ[names[0]]
        who = "Expression" if n_slides == 1 else f"Expression of {_listed(names)}"
        if first.action == "refuse":
            raise ValueError(_refusal(who, first, target, raw))
        done = (
            f"A copy was brought to {target.source}"
            if first.action == "convert"
            else "The base of the logarithms cannot be told, and nothing was changed"
        )
        warn(
            f"{who} looks like {_described(first)}. {target.source[0].upper() + target.source[1:]} is "
            f"{_scale(target.scale, first.total)}. {done}. {_remedy(first, target, 'To choose the scale yourself, start from counts: call')}"
        )


def _refusal(who: str, one: Difference, target: Target, raw: bool) -> str:
    start = "start from adata.raw.to_adata()" if raw else "start from the counts"
    if one.values.form.kind == "mixed":
        return (
            f"{who} has counts in some cells and logarithms in others: name the column of obs that tells them apart as "
            f"library_key. {_remedy(one, target, f'Or {start}: call')}"
        )
    if one.values.form.kind != "binary":
        return f"The model was fitted on the values 0 and 1 alone, but {who[0].lower() + who[1:]} looks like {_described(one)}: make it binary."
    return (
        f"{who} must not be binary, found 0 and 1 alone (largest value 1). {target.source[0].upper() + target.source[1:]} is "
        f"{_scale(target.scale, one.total)}. {_remedy(one, target, f'To place these cells, {start}: call')}"
    )


def _described(one: Difference) -> str:
    form, own = one.values.form, one.values
    names = {
        "counts": "raw counts",
        "fractional counts": "fractional counts, as of a correction for ambient RNA",
        "normalised": "fractions without logarithms" if own.whole < 1.5 else "normalised values without logarithms",
        "logged twice": "logarithms of logarithms",
        "binary": "presence and absence",
        "mixed": "counts beside logarithms",
        "logarithms": _logarithms(form.base),
    }
    return f"{names[form.kind]} (median total {_figure(own.total)} per cell, largest value {own.largest:.3g})"


def _logarithms(base: float | None) -> str:
    if base is None:
        return "logarithms"
    return "natural logarithms" if base == math.e else f"logarithms to base {base:g}"


def _scale(scale: ExpressionScale, total: float) -> str:
    largest = f", largest value {scale.largest:.3g}" if scale.largest else ""
    return f"{_logarithms(scale.base)} (median total {_figure(total)} per cell{largest})"


def _remedy(one: Difference, target: Target, start: str) -> str:
    base = target.scale.base
    log = "sc.pp.log1p(adata)" if base in (None, math.e) else f"sc.pp.log1p(adata, base={base:g})"
    return f"{start} sc.pp.normalize_total(adata, target_sum={one.target:.6g}), then {log}."


def _figure(total: float) -> str:
    return f"{total:,.0f}" if total >= 10 else f"{total:.3g}"


def _listed(names: list[str], most: int = 5) -> str:
    shown = ", ".join(map(repr, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")
    return f"slide {shown}" if len(names) == 1 else f"slides {shown}"
