"""Texts that the docstrings of functions on AnnData share."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

TEXTS = {
    "model": """model
    Fitted model (default: the model fitted on this AnnData).""",
    "slides": """library_key
    Column of ``obs`` with the slide of each cell.""",
    "sections": """library_key
    Column of ``obs`` with the slide of each cell (default: all cells are one section, called ``"section"``).""",
    "library_key": """library_key
    Column of ``obs`` with the slide of each cell (default: all cells are one slide).""",
    "spatial_key": """spatial_key
    Key of the coordinates in ``obsm``.""",
    "layer": """layer
    Layer with log-normalised expression (default: ``X``).""",
    "gene_key": """gene_key
    Column of ``var`` with the names of genes (default: ``var_names``).""",
    "mask_var": """mask_var
    Boolean column of ``var`` that selects genes (default: all genes).""",
    "random_state": """random_state
    Seed, an integer below 2**64 or a generator; None takes that of ``ipar.settings``. The global random state is left
    unchanged.""",
    "device": """device
    A torch device, or ``"auto"``: that of ``ipar.settings``, by default CUDA if available, else CPU.""",
    "progress": """progress
    Show progress bars, unless ``ipar.settings`` hides them.""",
    "copy": """copy
    Return a changed copy instead of writing in place.""",
    "minisets": """n_minisets
    Random subsets per slide.
miniset_size
    Smallest and largest subset (default: as in the model's training).""",
}
TEXTS |= {
    "slide": """library_key
    Column of ``obs`` with the slide of each cell (default: ``"slide"``, if it exists).
slide
    Slide to draw (default: the first by name).""",
    "color": """color
    Column of ``obs``, or gene, to colour by, or a list of these, each with panels of its own. Colours of categories are those
    of ``uns[color + "_colors"]``, and are written there if missing. By default, cells are coloured by position.""",
    "img": """img
    Draw the image of the tissue below true positions: that of ``uns["spatial"]``, as scanpy and squidpy store it, or that
    of a SpatialData in the coordinate system of its cells, by spatialdata-plot (default: if there is one).
library_id
    Key in ``uns["spatial"]`` of the image, or name of an image of a SpatialData (default: that of the slide).""",
    "figsize": """figsize
    Width and height of a new figure in inches.""",
    "chart": """frameon
    Draw a frame all around each panel, or with False none (default: on the left and below).
figsize
    Width and height of a new figure in inches.""",
    "color_layer": """layer
    Layer with the expression of genes that are coloured by (default: ``X``).""",
    "size": """size
    Area of a dot in points² (default: dots almost touch).
frameon
    Draw a frame around each map.
title
    Title of the figure, or one title per panel.""",
    "map_style": """frameon
    Draw a frame around each map.
title
    Title of the figure.
palette
    Colours of categories: a list in their order, a dictionary by name, or the name of a matplotlib colour map. They are
    written to ``uns[color + "_colors"]``.
cmap
    Colour map of numbers (default: viridis).""",
    "cmap": """cmap
    Colour map of numbers (default: viridis).""",
    "unit": """unit
    Micrometres per unit of the true coordinates, for a scale bar (default: as recorded for Visium and simulated slides).""",
    "show": """show
    Call :func:`matplotlib.pyplot.show` (default: only if neither `ax` nor `return_fig` is given).""",
    "figure": """return_fig
    Return the figure.

Returns
-------
matplotlib.figure.Figure or None
    The figure, if `return_fig`.""",
}
TEXTS |= {
    "table_key": """table_key
    Table of a SpatialData. Results are written to it, or with `copy` to that of another SpatialData with the same elements.
    If its cells annotate several elements, such as one per section, these are the slides by default.""",
    "coordinate_system": """coordinate_system
    Coordinate system of a SpatialData from which coordinates are read: centroids of the shapes, labels or points that the
    cells annotate, joined by the ids of instances (default: the coordinates in ``obsm``, or if there are none, the only
    coordinate system, or the one called ``"global"``). The table keeps its own coordinates.""",
}
TEXTS["style"] = "\n".join([TEXTS["size"], *TEXTS["map_style"].splitlines()[4:]])
TEXTS["engine"] = """accelerator
    Kind of device, if `device` is ``"auto"``: ``"auto"``, ``"cpu"``, ``"gpu"`` (or ``"cuda"``), or ``"mps"``.
devices
    How many devices of this machine train together, each with a part of every batch (default: one); ``"auto"`` takes all
    GPUs, or all processes that ``torchrun`` started. The weights are those of one device. More than one need
    ``pip install "ipar[fabric]"``.
strategy
    How processes are started: ``"ddp"`` runs the script once per device, ``"ddp_notebook"`` forks them, and ``"auto"`` takes
    the one that works here.
precision
    Of the heaviest products: ``"32-true"``, ``"bf16-mixed"``, or ``"auto"``, bfloat16 where the hardware multiplies it."""
TEXTS["run"] = "\n".join(TEXTS[name] for name in ("random_state", "device", "progress"))
TEXTS["training"] = "\n".join(TEXTS[name] for name in ("spatial_key", "layer", "mask_var", "gene_key", "run"))


def shared_docs(function: Function) -> Function:
    """Fill in the texts that a docstring names as ``%(name)s``."""
    text = inspect.cleandoc(function.__doc__ or "")
    for name, shared in TEXTS.items():
        text = text.replace(f"%({name})s", shared)
    function.__doc__ = text
    return function


def with_parameters(text: str, names: Sequence[str]) -> str:
    """A docstring with the shared texts of more parameters at the end of its section on parameters."""
    more = "\n".join(TEXTS[name] for name in names)
    section = re.compile(r"(^Parameters\n-+\n.*?)(?=\n\n[^\n]+\n-+\n|\Z)", flags=re.DOTALL | re.MULTILINE)
    return section.sub(lambda found: f"{found[1]}\n{more}", inspect.cleandoc(text), count=1)
