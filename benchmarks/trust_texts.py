"""Prose of the page on trust."""

INTRODUCTION = (
    "# Trust",
    "",
    "What ipar says of a query, checked on queries of which the answer is known. Made with",
    "",
    "```bash",
    "python -m benchmarks.regions --data ../shared/data",
    "python -m benchmarks.trust --data ../shared/data --markdown docs/trust.md",
    "```",
    "",
    'All models are fitted with `quality="fast"`, one seed each. Slides that are placed were kept apart. {doc}`concepts` explains',
    "the figures.",
    "",
    "## Foreign queries",
    "",
    "A model of one tissue places sections of it that it was not taught on, and sections of another tissue, by the genes that",
    "both have. The distance of a query should stay below the limit in the first case, and be above it in the second. The",
    "limit comes from left-out training slides alone. An AUROC of 1 means that all foreign sections are further away than all",
    "real ones.",
    "",
)
BELONGING = (
    "## Queries that belong",
    "",
    "Expected errors are means over cells, in RMS radii of the tissue, and true errors are distances after alignment. The slope is",
    "that of a straight line of true on expected errors of single cells: 1 is right, and less means that errors are expected to",
    "differ more than they do. Names with a comma are the models above; the others are the tasks of {doc}`benchmarks`.",
    "",
)
SPOILT = (
    "## Spoilt queries",
    "",
    "Sections kept apart, spoilt on purpose: their counts thinned out to a median of so many, the names of genes dealt out",
    "anew, the genes of each cell or the cells of each gene shuffled, and Poisson noise around the mean expression. Figures are",
    "means over models. A query with few counts is not foreign, but nothing is known of where its cells were.",
    "",
)
REGIONS = (
    "## Regions",
    "",
    "{func}`ipar.tl.predict_regions` gives each cell a set of places that should hold its true place with a given probability.",
    "The table has the share of cells for which it does, on sections kept apart. The area is compared with that of balls around the",
    "layout whose radii go with the expected error, both scaled to cover 80 % of the cells. Less than 1 is better.",
    "",
)
VALUES = (
    "## Values that do not fit",
    "",
    "A model keeps how its expression was normalised. Values of another scale are converted on a copy, with a warning that has",
    "both figures: logarithms of counts per million or of another total, logarithms to base 2 or 10, values without logarithms,",
    "logarithms of logarithms, fractions, raw counts, fractional counts of a correction for ambient RNA, and slides of counts",
    "beside slides of logarithms. Converted cells get the coordinates of properly normalised ones. Binary and scaled values are",
    "refused with the remedy, and so are counts beside logarithms within a slide. Two cases are missed. Totals of a subset of",
    "genes differ between cell types, so that another total is only noticed beyond a factor of six there. The base of smoothed",
    "values cannot be told. The slides of all benchmarks raise no alarm. One data set differs and is named: the cells of the",
    "embryo `e1z2` are logarithms to base 2.",
)
