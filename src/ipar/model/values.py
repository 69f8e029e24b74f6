"""What the values of a slide are: counts, normalised counts, or logarithms, and to which base."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Kind = Literal["empty", "binary", "mixed", "counts", "fractional counts", "normalised", "logarithms", "logged twice"]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Form:
    """A way to store expression.

    Attributes
    ----------
    kind
        What the values are.
    base
        Base of logarithms; None where it cannot be told, which is then read as e.
    """

    kind: Kind
    base: float | None = None

    def linear(self, data: Floats) -> NDArray[np.float64]:
        """The values that logarithms were taken of, or the values themselves."""
        x = np.asarray(data, dtype=np.float64)
        with np.errstate(over="ignore"):  # of what cannot be logarithms
            if self.kind == "logged twice":
                return np.expm1(np.expm1(x))
            if self.kind == "logarithms":
                return np.expm1(x if self.base is None else x * np.log(self.base))
        return x


@dataclass(frozen=True)
class Values:
    """What a slide holds.

    Attributes
    ----------
    form
        How its values are stored.
    total, even
        Median over cells of the sum of linear values over the genes that are compared, and whether it is the same in all.
    whole, whole_even
        The same over all genes of the slide.
    largest
        Largest value as it is stored.
    n_cells
        Cells with any value among those read.
    """

    form: Form
    total: float = 0.0
    even: bool = False
    whole: float = 0.0
    whole_even: bool = False
    largest: float = 0.0
    n_cells: int = 0


@dataclass(frozen=True)
class Recognition:
    r"""How the form of values is recognised.

    Counts that were scaled cell by cell keep their ratios: with the right base b, :math:`(b^v - 1) / (b^{v_0} - 1)` is a whole
    number for all values v of a cell and its smallest one :math:`v_0`. Smoothed values have no such ratios. The form is then
    told by totals that are the same in all cells, or not at all.

    Attributes
    ----------
    n_cells, n_read
        Cells per slide whose totals are read, and those among them with most values, whose ratios are read.
    most_units, near, sure
        Ratios up to this are read. They are whole if they deviate by less than `near`, beyond doubt by less than `sure`.
    least_share, least_values
        Share of cells whose ratios must be whole, and ratios that are needed altogether.
    even
        Totals are the same that differ by less than this share, from `least_cells` cells on.
    mixed
        From this share of cells on, counts beside logarithms are no accident.
    log_max, most_total
        Larger values, and totals of what they would be logarithms of, are no logarithms.
    """

    n_cells: int = 300
    n_read: int = 64
    most_units: float = 20.0
    near: float = 0.02
    sure: float = 1e-5
    least_share: float = 0.5
    least_values: int = 6
    even: float = 1e-3
    least_cells: int = 10
    mixed: float = 0.05
    log_max: float = 30.0
    most_total: float = 1e9

    def sample(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Some of the rows of a slide, always the same."""
        if len(rows) <= self.n_cells:
            return rows
        return rows[np.unique(np.random.default_rng(0).integers(0, len(rows), self.n_cells))]

    def of(self, cells: sparse.csr_matrix, compared: NDArray[np.bool_] | None = None) -> Values:
        """What some cells of a slide hold; totals are also taken over the genes that are compared ``(n_genes,)``."""
        if not cells.data.any():
            return Values(Form("empty"))
        rows = [row[row != 0] for row in np.split(cells.data, cells.indptr[1:-1])]
        form = self._form([row for row in rows if len(row)])
        linear = sparse.csr_matrix((form.linear(cells.data), cells.indices, cells.indptr), shape=cells.shape)
        whole = np.asarray(linear.sum(axis=1)).ravel()
        total = whole if compared is None else linear @ compared.astype(np.float64)
        kept = total > 0
        return Values(
            form,
            *self.median(total[kept]),
            *self.median(whole[whole > 0]),
            largest=float(cells.data.max()),
            n_cells=int(kept.sum()),
        )

    def median(self, totals: NDArray[np.float64]) -> tuple[float, bool]:
        """Median of totals, and whether they are the same."""
        if not len(totals):
            return 0.0, False
        low, middle, high = (float(q) for q in np.quantile(totals, [0.1, 0.5, 0.9]))
        return middle, len(totals) >= self.least_cells and high - low < self.even * middle

    def _form(self, rows: list[Floats]) -> Form:
        whole = np.array([(row == np.round(row)).all() for row in rows])
        if whole.all():
            return Form("binary" if max(row.max() for row in rows) == 1 else "counts")
        if self.mixed <= whole.mean() <= 1 - self.mixed:
            others = self._form([row for row, one in zip(rows, whole, strict=True) if not one])
            counts = max(row.max() for row, one in zip(rows, whole, strict=True) if one) > 1
            return Form("mixed") if counts and others.kind == "logarithms" else others
        logs = [Form("logarithms", base) for base in (math.e, 2.0, 10.0)]
        twice, plain = Form("logged twice"), Form("normalised")
        forms = [form for form in (*logs, twice, plain) if self._possible(form, rows)]
        found = self._by_ratios(rows, forms) or self._by_totals(rows, forms)
        if found is not None:
            return found
        return Form("logarithms") if logs[0] in forms else Form("fractional counts")

    def _possible(self, form: Form, rows: list[Floats]) -> bool:
        """Whether the largest values of most cells can be of this form."""
        largest = float(np.median([row.max() for row in rows]))
        if form.kind == "normalised":
            return True
        of = float(form.linear(np.array([largest]))[0])
        return largest <= self.log_max and of <= self.most_total

    def _by_ratios(self, rows: list[Floats], forms: Sequence[Form]) -> Form | None:
        read = [np.unique(row) for row in sorted(rows, key=len, reverse=True)[: self.n_read]]
        best: tuple[float, Form | None] = (self.near, None)
        for form in forms:
            found = [self._deviation(form.linear(row)) for row in read]
            deviation = np.array([one for one, n in found if n])
            enough = sum(n for _, n in found) >= self.least_values
            if not enough or (deviation < self.near).mean() <= self.least_share:
                continue
            middle = float(np.median(deviation))
            if middle < self.sure:
                return form
            best = min(best, (middle, form), key=lambda one: one[0])
        return best[1]

    def _deviation(self, values: NDArray[np.float64]) -> tuple[float, int]:
        """Mean deviation of ratios from whole numbers, and how many ratios; the smallest value may stand for 1, 2 or 3."""
        best = (np.inf, 0)
        for units in (1, 2, 3):
            ratios = units / values[0] * values[: np.searchsorted(values, self.most_units / units * values[0])]
            ratios = ratios[ratios > units + 0.5]
            if len(ratios) >= 2:
                best = min(best, (float(np.abs(ratios - np.round(ratios)).mean()), len(ratios)))
            if best[0] < self.near:
                break
        return best

    def _by_totals(self, rows: list[Floats], forms: Sequence[Form]) -> Form | None:
        for form in forms:
            totals = np.array([form.linear(row).sum() for row in rows])
            if np.isfinite(totals).all() and self.median(totals)[1]:
                return form
        return None
