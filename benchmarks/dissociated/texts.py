"""What the page of dissociated cells says; every figure is filled in from the records."""

from __future__ import annotations

from dataclasses import dataclass

LABELS = {
    "ipar": "**ipar**",
    "ipar_no_adapter": "ipar without its adapter",
    "nearest_spot": "nearest spot by correlation",
    "ten_best": "mean of the ten best spots",
    "pca_knn": "PCA + kNN",
    "ridge": "ridge",
    "nearest_cells": "mean of the nearest cells by correlation",
    "tangram": "Tangram (peer)",
    "tangram_likeliest": "Tangram, likeliest spot (peer)",
    "moscot": "moscot (peer)",
    "moscot_likeliest": "moscot, likeliest spot (peer)",
    "novosparc": "novoSpaRc (peer)",
    "novosparc_likeliest": "novoSpaRc, likeliest spot (peer)",
    "celery": "CeLEry (peer)",
    "any_spot": "any spot (chance)",
    "any_cells": "random cells (chance)",
}
CHANCE = ("any_spot", "any_cells")
LIKELIEST = "_likeliest"
"""How the names of rows end whose places are those of the one spot that a mapping gives most of a cell."""


@dataclass(frozen=True)
class Column:
    """A score of a table.

    Attributes
    ----------
    title
        Head of the column.
    more
        Whether more is better; None for what is shown without a best.
    digits
        Decimal places.
    """

    title: str
    more: bool | None
    digits: int = 3


@dataclass(frozen=True)
class Part:
    """A task's part of the page: title, what was done, columns, and the one score that it is judged by."""

    title: str
    text: str
    columns: dict[str, Column]
    main: str


_DEPTH = {
    "depth_fitted": Column("Spearman, fitted direction", True),
    "depth_section": Column("Spearman, the section's direction", True),
}
_PEARSON = {
    "pearson_median": Column("median Pearson per gene", True),
    "pearson_mean": Column("mean", True),
    "pearson_low": Column("lower quartile", None),
    "pearson_high": Column("upper quartile", None),
}

PARTS = {
    "mop": Part(
        "Motor cortex: single cells on MERFISH spots",
        """Cells of a dissociated motor cortex (`mop_sc20k`) are placed on one section of MERFISH spots (`mop_merfish_spots`). The
cells have no coordinates, but the types of neurons name their layer: L2/3, L5 or L6. The score is the Spearman correlation
of a neuron's place along the depth of cortex with the rank of its layer. The first column takes the direction that suits the
method best, so it is an upper bound. The second takes the direction from the section alone: the gradient of markers of layer
6 less those of upper layers.""",
        _DEPTH,
        "depth_section",
    ),
    "zeisel": Part(
        "Visual cortex: single cells on a STARmap section",
        """Cells of somatosensory cortex and hippocampus (`zeisel550`) are placed on a section of visual cortex (`v1_starmap_1k`). The
section is of another area, and holds single cells. Correlations are those of the neurons of S1, of layers 2/3 and 4/5a.
*In order* says whether the mean places of layer 2/3, layer 4/5a and the oligodendrocytes of white matter have this order.
Excitatory cells of the hippocampus belong in no cortex, though the authors of this section name a few of its cells so. AUROC
says how often a method is less sure of such a cell than of a neuron of S1, or than of any other cell. Of the two look-ups, the confidence is the correlation, and of PCA + kNN the
distance. For ipar it is the similarity of a cell and its best match, and for the mapping peers the entropy of a cell's row of
the mapping. Ridge and CeLEry have none.""",
        _DEPTH
        | {
            "in_order": Column("in order", None),
            "kendall": Column("Kendall's τ", None, 2),
            "auroc_neurons": Column("AUROC, against neurons", True),
            "auroc_all": Column("AUROC, against all", True),
        },
        "depth_section",
    ),
    "e1z2": Part(
        "Embryo: single cells on summed spots",
        """Cells of a slice of an embryo (`e1z2`) are placed on spots, which are sums of cells of the same slice. Errors are distances
in units of the canvas, which is 157 by 216. Only cells in no spot count.""",
        {
            "unseen_median": Column("**median error**", False, 1),
            "unseen_mean": Column("**mean error**", False, 1),
            "leaked_median": Column("leaked cells: median", None, 1),
            "leaked_mean": Column("mean", None, 1),
            "mixed_median": Column("both mixed: median", None, 1),
            "mixed_mean": Column("mean", None, 1),
        },
        "unseen_median",
    ),
    "embryo_half": Part(
        "Embryo: pooled cells teach single cells",
        """A random half of the cells of one embryo is pooled to spots of about six cells, which teach. The other half is placed, and none
of its cells is in a spot. Another half is drawn with every seed. Errors are in RMS radii of the section, in its own frame.""",
        {
            "error_median": Column("median error", False),
            "error_mean": Column("mean error", False),
            "knn_hit_20_ratio": Column("kNN hit@20 ÷ chance", True, 1),
            "luna_spearman": Column("LUNA Spearman", True),
        },
        "error_median",
    ),
    "hippo": Part(
        "Brain: one section teaches another",
        """One section of a half brain (Hippo1) teaches another (Hippo3). The sections have no frame in common, so all scores
disregard rotation, reflection and scale. {doc}`benchmarks` shows what more than one section brings.""",
        {
            "luna_spearman": Column("LUNA Spearman", True),
            "knn_hit_20_ratio": Column("kNN hit@20 ÷ chance", True, 2),
            "contact_f1_1": Column("contact F1@1 %", True),
            "procrustes_rmse": Column("Procrustes RMSE", False),
            "e_geo": Column("E_geo", False, 2),
            "coverage": Column("coverage", True),
        },
        "luna_spearman",
    ),
    "impute_mop": Part(
        "Gene imputation: motor cortex",
        """Genes are held out of the section and predicted for its spots from the dissociated cells. Genes are drawn anew with every
seed, among those that a tenth of the spots and of the cells hold. They count in no total, so nothing of them reaches a method. A
gene's score is the Pearson correlation of its prediction with what was measured, over spots. Mapping peers deal the expression
of cells out to spots by their mapping, as Tangram defines it.""",
        _PEARSON,
        "pearson_median",
    ),
    "impute_zeisel": Part(
        "Gene imputation: visual cortex",
        """The same on the STARmap section, whose places are single cells with few molecules each. Correlations are low for every method,
because the measured values are noisy themselves.""",
        _PEARSON,
        "pearson_median",
    ),
}

PAGE = """# Dissociated cells

Cells of a suspension, or of another section, are placed in the frame of one section. Every method gets the section with its
coordinates, and the expression of the cells. It gives a place per cell in the frame of the section. Made with

```bash
{command}
```

Means ± sd over seeds; the best of a column is bold, chance aside. A score without sd has one seed. The look-ups have no
randomness of their own, so their sd is 0 where the data do not depend on the seed. Seconds are the median of runs on one core,
fitting included, of a machine that others used at the same time.

{parts}
## Methods

- *Nearest spot by correlation* gives a cell the place of the spot with the highest Pearson correlation over genes. It learns
  nothing. *Mean of the ten best* averages the places of ten such spots.
- *PCA + kNN* averages the places of the 20 nearest spots in 50 principal components; genes are centred on either side.
  *Ridge* regresses places on the same components.
- Peers are run from their packages, with the settings of their tutorials, in environments of their own. A mapping peer places
  a cell at the mean of the spots, weighted by the cell's row of its mapping. *Likeliest spot* is the same mapping, with the cell
  at the spot of its largest weight. CeLEry regresses coordinates.
{subsets}- Counts are scaled to the median total of the section over the shared genes, then log1p-transformed. Query cells of `e1z2` come
  log-normalised and stay as they are. They are logarithms to base 2, which ipar recognises and converts.

No coordinate of a scored cell reaches a method. Settings of the controls are those of {{doc}}`benchmarks`, or were set before
the first run. The normalisation is the one that reproduces the figures of the look-ups that came with the data; on
`e1z2`, others give lower errors.
"""

LEAK = """The published protocol of this task scores all cells of the slice, and it leaks. The spots that teach are sums of cells,
and {share} of the query cells are among them. Their own molecules are part of a spot. A look-up without any learning finds
it: the nearest spot by correlation has a median error of {leaked} on these cells, and of {unseen} on cells in no
spot. Mixed as in the published protocol, it has {mixed}. That figure measures how well a method recognises what it has been
shown. It says little about a cell that was never measured in place. So compare methods on unseen cells only, in the first two
columns."""

SUBSET = """- {names} got a random {most} of the {all} cells of motor cortex, drawn anew with every seed, to
  bound their time and memory on one core. {{doc}}`speed` shows how both grow.
"""

MISSING = "ipar has not been measured yet."
