"""The scale of a model's expression, and values of another scale brought to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ipar._options import NonNegative, Positive, checked
from ipar.model.checks import shaped
from ipar.model.io import State
from ipar.model.values import Floats, Form, Kind, Recognition, Values

PER_CELL: tuple[Kind, ...] = ("counts", "fractional counts")


@dataclass(frozen=True)
class Tolerance:
    """Which differences of median totals are none.

    Attributes
    ----------
    even
        Largest factor between totals that are the same in all cells on both sides.
    uneven
        The same elsewhere: totals of some genes differ by cell type, too, by four times in a real embryo.
    unlike
        The same elsewhere, where the form of the values differs as well.
    untold
        The same where the base of logarithms cannot be told.
    least_cells
        Totals of fewer cells are compared only where the form differs, as where the base cannot be told.
    rounded
        Totals over all genes go to a power of ten that is nearer than this factor: medians over shared genes are estimates.
    """

    even: float = 1.5
    uneven: float = 6.0
    unlike: float = 3.0
    untold: float = 10.0
    least_cells: int = 10
    rounded: float = 1.25


@dataclass(frozen=True)
class Difference:
    """How the values of a slide differ from a scale, and what is done.

    Attributes
    ----------
    values
        What the slide holds.
    action
        ``"convert"``, ``"warn"`` where the base cannot be told, or ``"refuse"``.
    total
        The scale's total over the genes that are compared.
    factor
        What linear values are multiplied by, after they were divided by their cell's total where they are counts.
    compared_only
        Whether the totals of counts are taken over the genes that are compared, not over all.
    """

    values: Values
    action: Literal["convert", "warn", "refuse"]
    total: float
    factor: float = 1.0
    compared_only: bool = False

    @property
    def per_cell(self) -> bool:
        """Whether every cell is divided by its total."""
        return self.values.form.kind in PER_CELL

    @property
    def target(self) -> float:
        """Total over all genes of the slide that brings it to the scale."""
        own = self.values
        if self.action != "convert" or not own.total:
            return self.total
        if self.per_cell:
            return self.factor * own.whole / own.total if self.compared_only else self.factor
        return own.whole * self.factor


@dataclass(frozen=True)
class ExpressionScale:
    """How the expression was normalised that a model was fitted on.

    Attributes
    ----------
    total
        Median over cells of the sum of :math:`b^v - 1` over the model's genes.
    even
        Whether this sum is the same in all cells.
    base
        b; None where it cannot be told, as of smoothed values, and is read as e.
    largest
        Largest value among the cells that were read.
    means
        Mean of :math:`b^v - 1` of every gene, ``(n_genes,)``.
    """

    total: float
    even: bool
    base: float | None
    largest: float
    means: NDArray[np.float32]

    @classmethod
    def of(cls, slides: Sequence[sparse.csr_matrix], recognition: Recognition | None = None) -> ExpressionScale:
        """That of slides with the same genes, ``(n_s, n_genes)`` each."""
        recognition = recognition or Recognition()
        samples = [slide[recognition.sample(np.arange(slide.shape[0]))] for slide in slides]
        forms = {recognition.of(sample).form for sample in samples} - {Form("empty"), Form("logarithms")}
        form = forms.pop() if len(forms) == 1 else Form("logarithms")
        cells = sparse.csr_matrix(sparse.vstack(samples, format="csr"))
        linear = sparse.csr_matrix((form.linear(cells.data), cells.indices, cells.indptr), shape=cells.shape)
        totals = np.asarray(linear.sum(axis=1)).ravel()
        total, even = recognition.median(totals[totals > 0])
        means = np.asarray(linear.mean(axis=0), dtype=np.float32).ravel()
        return cls(total, even, form.base, float(cells.data.max(initial=0.0)), means)

    @classmethod
    def default(cls, n_genes: int, total: float = 1e4) -> ExpressionScale:
        """Natural logarithms of one total, of genes of which nothing else is known."""
        return cls(total, True, math.e, 0.0, np.ones(n_genes, dtype=np.float32))

    @property
    def binary(self) -> bool:
        """Whether the model knows 0 and 1 alone."""
        return self.base is None and self.largest == 1

    def total_of(self, present: NDArray[np.bool_]) -> float:
        """The total to expect of some of the genes ``(n_genes,)``."""
        whole = float(self.means.sum(dtype=np.float64))
        share = float(self.means[present].sum(dtype=np.float64)) / whole if whole else 1.0
        return self.total if present.all() else self.total * share

    def difference(
        self, values: Values, present: NDArray[np.bool_], tolerance: Tolerance | None = None
    ) -> Difference | None:
        """How a slide differs that holds some of the genes ``(n_genes,)``; None if it does not."""
        tolerance, form, total = tolerance or Tolerance(), values.form, self.total_of(present)
        if form.kind == "empty":
            return None
        if form.kind == "mixed":
            return Difference(values, "refuse", total)
        if (binary := form.kind == "binary") or self.binary:
            return None if binary and self.binary else Difference(values, "refuse", total)
        known = min(values.total, total) > 0
        ratio = max(values.total / total, total / values.total) if known else 1.0
        both_even = values.even and self.even and bool(present.all())
        if form.kind == "logarithms" and None in (form.base, self.base):
            far = values.n_cells >= tolerance.least_cells and ratio > tolerance.untold
            return Difference(values, "warn", total) if far else None
        if form.kind in PER_CELL:
            return self._of_counts(values, total, tolerance)
        same = form.kind == "logarithms" and form.base == self.base
        most = tolerance.even if both_even else tolerance.uneven if same else tolerance.unlike
        if values.n_cells < tolerance.least_cells:
            most = np.inf if same else tolerance.untold
        far = ratio > most
        if same and not far:
            return None
        whole = values.whole if values.whole_even else 1.0
        factor = total / values.total if far else 1.0
        if far and not both_even:
            factor = _rounded(factor * whole, tolerance) / whole
        return Difference(values, "convert", total, factor)

    def _of_counts(self, values: Values, total: float, tolerance: Tolerance) -> Difference:
        """Cells go to the model's total over shared genes where it is the same in all cells, else to one over all genes."""
        if self.even or min(values.total, total) <= 0:
            return Difference(values, "convert", total, total, compared_only=True)
        return Difference(values, "convert", total, _rounded(total * values.whole / values.total, tolerance))

    def state(self) -> State:
        """Settings and arrays."""
        config = {"total": self.total, "even": self.even, "base": self.base, "largest": self.largest}
        return config, {"means": self.means}

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> ExpressionScale:
        """The object of :meth:`state`."""
        hints = {"total": NonNegative, "even": bool, "base": Positive | None, "largest": NonNegative}
        return cls(**checked(config, hints), means=np.array(shaped(arrays, {"means": "g"})["means"], dtype=np.float32))

    def converted(self, data: Floats, difference: Difference, totals: NDArray[np.float64]) -> NDArray[np.float32]:
        """Values of a slide on this scale; ``totals`` are those of the cell of every value."""
        linear = difference.values.form.linear(data)
        if difference.per_cell:
            linear = linear / np.where(totals > 0, totals, 1.0)
        out = np.log1p(linear * difference.factor)
        return (out if self.base in (None, math.e) else out / np.log(self.base)).astype(np.float32)


def _rounded(total: float, tolerance: Tolerance) -> float:
    """A total, or the power of ten that it is near to."""
    power = 10.0 ** round(np.log10(total))
    return power if max(power / total, total / power) < tolerance.rounded else total
