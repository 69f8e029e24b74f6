"""Public data: from a folder of copies, or downloaded once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ipar._preferences import settings
from ipar._public import public
from ipar.datasets._registry import REGISTRY, Dataset

if TYPE_CHECKING:
    from anndata import AnnData


@public
def fetch(name: str, *, progress: bool = True) -> AnnData:
    """Read a public data set; it is downloaded once, and its checksum is compared.

    A file ``<name>.h5ad`` in the folder ``ipar.settings.datadir``, by default that of the environment variable ``IPAR_DATA``,
    comes before a download. Downloads are kept in the cache folder of the user.

    Parameters
    ----------
    name
        One of ``ipar.datasets.available()``.
    progress
        Show a progress bar, unless ``ipar.settings`` hides it.

    Returns
    -------
    AnnData
        Cells as they are published, with ``obs["slide"]`` where there are several slides, ``obsm["spatial"]`` unless they are
        dissociated, and ``uns["source"]`` with paper, licence and source.

    Raises
    ------
    ValueError
        If there is no such data set, or a download does not have its checksum.
    FileNotFoundError
        If a data set is published in another form only, and no copy is in the folder.
    ImportError
        If pooch, which downloads, is not installed.
    ConnectionError
        If the file cannot be downloaded.

    Examples
    --------
    >>> import ipar
    >>> "merfish_hypothalamus" in ipar.datasets.available().index
    True
    """
    import anndata as ad

    if name not in REGISTRY:
        msg = f"There is no data set {name!r}, found {sorted(REGISTRY)}: name one of these."
        raise ValueError(msg)
    known = REGISTRY[name]
    copy = None if settings.datadir is None else Path(settings.datadir) / f"{name}.h5ad"
    if copy is not None and copy.is_file():
        return described(ad.read_h5ad(copy), known)
    return described(ad.read_h5ad(downloaded(name, known, cache_folder(), progress)), known)


def available() -> pd.DataFrame:
    """Public data sets that :func:`fetch` knows, one row each.

    Returns
    -------
    DataFrame
        By name: ``about``, ``reference``, ``licence``, ``source``, and ``download``, whether it can be downloaded.
    """
    rows = {
        name: {
            "about": one.about,
            "reference": one.reference,
            "licence": one.licence,
            "source": one.source,
            "download": one.url is not None,
        }
        for name, one in REGISTRY.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("name")


def described(adata: AnnData, known: Dataset) -> AnnData:
    """Give cells their column of slides, and say where they come from."""
    if known.slides is not None and "slide" not in adata.obs:
        adata.obs["slide"] = adata.obs[known.slides].astype(str).astype("category")
    own = adata.uns.get("source", {})
    adata.uns["source"] = {
        "description": known.about,
        "reference": known.reference,
        "licence": known.licence,
        "source": known.source,
        **(own if isinstance(own, dict) else {}),
    }
    return adata


def cache_folder() -> Path:
    """Where downloads are kept."""
    return Path(_pooch().os_cache("ipar"))


def downloaded(name: str, known: Dataset, folder: Path, progress: bool) -> Path:
    """The file of a data set, from the folder of downloads or, where it is not there yet, from its source."""
    place = "the folder of copies, ipar.settings.datadir or the environment variable IPAR_DATA"
    if known.url is None or known.sha256 is None:
        msg = f"{name} is published in another form only ({known.source}): put {name}.h5ad into {place}."
        raise FileNotFoundError(msg)
    pooch = _pooch()
    path = folder / f"{name}-{os.path.basename(known.url)}"
    try:
        found = pooch.retrieve(known.url, f"sha256:{known.sha256}", fname=path.name, path=folder, progressbar=progress)
    except ValueError as error:  # pooch's own, of a checksum; it keeps no such file
        msg = f"{name} was downloaded from {known.url}, but does not have its checksum: try again later, or put a copy, {name}.h5ad, into {place}."
        raise ValueError(msg) from error
    except OSError as error:
        msg = (
            f"{name} cannot be downloaded from {known.url} ({error}): look at your connection, or put a copy, {name}.h5ad, into "
            f"{place}."
        )
        raise ConnectionError(msg) from error
    return Path(found)


def _pooch() -> Any:
    try:
        import pooch
    except ImportError as error:
        msg = 'Downloads need pooch: pip install "ipar[datasets]", or point IPAR_DATA to a folder with copies.'
        raise ImportError(msg) from error
    pooch.get_logger().setLevel("WARNING")
    return pooch
