"""Genes of data matched with those of a model by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from ipar._anndata import warn
from ipar._chunks import Matrix, Rows, as_rows


@dataclass(frozen=True)
class Spelling:
    """Two spellings of a name that are taken for one gene: what is ignored, and the name without it."""

    ignored: str
    plain: Callable[[pd.Index], pd.Index]


def _without(pattern: str, kept: str = "") -> Callable[[pd.Index], pd.Index]:
    return lambda names: names.str.replace(pattern, kept, regex=True)


@dataclass(frozen=True)
class Naming:
    """How names of genes are matched.

    Attributes
    ----------
    min_overlap
        Share of a model's genes that must be found.
    spellings
        What is ignored, one after the other, for genes that are not found by their exact name.
    """

    min_overlap: float = 0.5
    spellings: tuple[Spelling, ...] = (
        Spelling("spaces around names", lambda names: names.str.strip()),
        Spelling("prefixes of genome assemblies", _without(r"^(?:GRC[hm]\d+|hg\d+|mm\d+)(?:_premrna)?_+")),
        Spelling("versions of Ensembl ids", _without(r"^(ENS[A-Z]*\d{6,})\.\d+$", r"\1")),
        Spelling("upper and lower case", lambda names: names.str.casefold()),
    )

    def matched(self, genes: pd.Index, known: pd.Index, columns: pd.DataFrame | None = None) -> pd.Index:
        """Names of the data's genes, those of the model where only the spelling differs; warns where it does.

        Parameters
        ----------
        genes
            Names of the data's genes, each once.
        known
            Names of the model's genes.
        columns
            Table of the data's genes, with columns that may hold other names.

        Raises
        ------
        ValueError
            If too few of the model's genes are found; names a column of the table that has more.
        """
        if known.isin(genes).all():
            return genes
        found, said = genes, []
        for spelling, pairs in self._pairs(genes, known):
            renamed = found.to_numpy(dtype=object, copy=True)
            renamed[[i for i, _ in pairs]] = [name for _, name in pairs]
            found = pd.Index(renamed)
            said.append((spelling, pairs))
        if known.isin(found).mean() < self.min_overlap:
            self._suggest_column(known, columns)
            check_overlap(genes, known, self.min_overlap)
        for spelling, pairs in said:
            _warn_of_pairs(spelling, pairs, genes, known)
        return found

    def _pairs(self, genes: pd.Index, known: pd.Index) -> Iterator[tuple[Spelling, list[tuple[int, str]]]]:
        """Positions of genes and the model's names for them, spelling by spelling; the first of several is taken."""
        free = np.flatnonzero(~genes.isin(known))
        sought = known[~known.isin(genes)]
        own, wanted = genes[free], sought
        for spelling in self.spellings:
            own, wanted = spelling.plain(own), spelling.plain(wanted)
            first = ~own.duplicated()
            position = pd.Index(own[first]).get_indexer(wanted)
            hit = (position >= 0) & ~wanted.duplicated()
            if not hit.any():
                continue
            taken = np.flatnonzero(first)[position[hit]]
            yield spelling, list(zip(free[taken].tolist(), sought[hit].tolist(), strict=True))
            left = np.ones(len(free), dtype=bool)
            left[taken] = False
            free, own, sought, wanted = free[left], own[left], sought[~hit], wanted[~hit]

    def _suggest_column(self, known: pd.Index, columns: pd.DataFrame | None) -> None:
        if columns is None:
            return
        for name in columns.columns:
            if not (pd.api.types.is_string_dtype(columns[name].dropna()) or columns[name].dtype == "category"):
                continue
            values = pd.Index(columns[name].astype(str).unique())
            found = set(known[known.isin(values)])
            found |= {gene for _, pairs in self._pairs(values, known) for _, gene in pairs}
            if len(found) >= self.min_overlap * len(known):
                msg = (
                    f"Genes are matched by adata.var_names, which have too few of the model's genes, such as {known[0]!r}. "
                    f"adata.var[{name!r}] has {len(found)} of these {len(known)}: pass gene_key={name!r}."
                )
                raise ValueError(msg)


def _warn_of_pairs(spelling: Spelling, pairs: list[tuple[int, str]], genes: pd.Index, known: pd.Index) -> None:
    position, name = pairs[0]
    plain, chosen = spelling.plain(genes), {i for i, _ in pairs}
    wanted = set(plain[sorted(chosen)])
    others = [i for i in np.flatnonzero(plain.isin(wanted)) if i not in chosen]
    more = f" {len(others)} other genes of the data have one of these names, too, and are left out." if others else ""
    species = " Symbols of mouse and human differ by case: check the species." if "case" in spelling.ignored else ""
    warn(
        f"{len(pairs)} of the model's {len(known)} genes were found only by ignoring {spelling.ignored}: {genes[position]!r} was "
        f"taken for {name!r}.{more}{species}"
    )


def unique_names(names: pd.Index, where: str) -> pd.Index:
    """Names of genes, each once: of several genes of one name, the first keeps it. Warns if there are any."""
    repeated = names.duplicated()
    if not repeated.any():
        return names
    warn(
        f"{int(repeated.sum())} names in {where} repeat, such as {names[repeated][0]!r}: the first gene of a name is taken."
    )
    made, count, given = names.tolist(), 0, set(names)
    for i in np.flatnonzero(repeated).tolist():
        while (name := f"{made[i]}-{count}") in given:
            count += 1
        made[i] = name
        given.add(name)
    unique: pd.Index = pd.Index(made)
    return unique


def match_genes(matrix: Matrix, genes: pd.Index, known: pd.Index, min_overlap: float = Naming.min_overlap) -> Matrix:
    """Bring a matrix into a model's gene order.

    Genes are matched by their exact names. A missing one stands at its slide's mean, that is at zero once centred.

    Raises
    ------
    ValueError
        If fewer than ``min_overlap`` of the model's genes are present.
    """
    n_missing = int((~check_overlap(genes, known, min_overlap)).sum())
    if n_missing:
        warn(f"{n_missing} of the model's {len(known)} genes are missing from the data; they are filled at the mean.")
    return order_genes(matrix, genes, known)


def check_overlap(genes: pd.Index, known: pd.Index, min_overlap: float) -> NDArray[np.bool_]:
    """Which of a model's genes the data have by their exact names; raises ValueError if they are too few."""
    present: NDArray[np.bool_] = genes.get_indexer(known) >= 0
    if present.mean() < min_overlap:
        msg = (
            f"Only {int(present.sum())} of the model's {len(known)} genes are in the data, at least half are "
            f"needed. Genes are matched by adata.var_names; the model has names such as {known[0]!r}, the data "
            f"{next(iter(genes), None)!r}: bring them to one naming (symbols or Ensembl ids), or pass a column of adata.var "
            "as gene_key."
        )
        raise ValueError(msg)
    return present


def order_genes(matrix: Matrix, genes: pd.Index, known: pd.Index) -> Matrix:
    """The columns of the known genes, in their order; empty where they are missing."""
    if genes.equals(known):
        return matrix
    found = genes.get_indexer(known)
    rows = np.flatnonzero(found >= 0)
    selector = sparse.csr_matrix(
        (np.ones(len(rows), dtype=np.float32), (found[rows], rows)), shape=(len(genes), len(known))
    )

    def ordered(chunk: sparse.csr_matrix, _: NDArray[np.int64]) -> sparse.csr_matrix:
        out = sparse.csr_matrix(chunk @ selector)
        out.sort_indices()  # sums in another order differ in their last digits
        return out

    reordered = as_rows(matrix).map(ordered, len(known))
    return reordered if isinstance(matrix, Rows) else reordered.whole()


def rep_names(use_rep: str, width: int) -> pd.Index:
    """Names of the columns of an embedding."""
    return pd.Index([f"{use_rep}_{i}" for i in range(width)])
