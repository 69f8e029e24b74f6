"""Public data sets that :func:`ipar.datasets.fetch` knows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dataset:
    """A public data set.

    Attributes
    ----------
    about
        Tissue, technology, slides, cells and genes.
    reference
        The paper.
    licence
        As its source states it.
    source
        Where it is, or what a copy was made from.
    url, sha256
        The file and its checksum; None for data that are published in another form only.
    slides
        Column of ``obs`` that tells slides apart, which becomes ``obs["slide"]``.
    """

    about: str
    reference: str
    licence: str
    source: str
    url: str | None = None
    sha256: str | None = None
    slides: str | None = None


_SCVERSE = "https://exampledata.scverse.org/squidpy/"

REGISTRY = {
    "merfish_hypothalamus": Dataset(
        "mouse hypothalamus, MERFISH, 12 sections of one animal, 73,655 cells, 161 genes",
        "Moffitt et al., Science 362 (2018), doi:10.1126/science.aau5324",
        "CC0 1.0 (Dryad, doi:10.5061/dryad.8t8s248)",
        "example data of squidpy",
        f"{_SCVERSE}merfish.h5ad",
        "371723d48413ba76aba49ccf7ea24867b1db940529216fe2902484f5c2a48904",
        "Bregma",
    ),
    "seqfish_embryo": Dataset(
        "mouse embryo, seqFISH, one section, 19,416 cells, 351 genes",
        "Lohoff et al., Nature Biotechnology 40 (2022), doi:10.1038/s41587-021-01006-2",
        "none stated",
        "example data of squidpy",
        f"{_SCVERSE}seqfish.h5ad",
        "7e544c0ede7538067537da69c52748ad01522ef7fc8691e077fd73c9434019f7",
    ),
    "slideseq_hippocampus": Dataset(
        "mouse hippocampus, Slide-seqV2, one section, 41,786 beads, 4,000 genes",
        "Stickels et al., Nature Biotechnology 39 (2021), doi:10.1038/s41587-020-0739-1",
        "none stated",
        "example data of squidpy",
        f"{_SCVERSE}slideseqv2.h5ad",
        "224a0f2b3d4f6c0ac1583c93bb6bfa910a986df82302c4a927d61883b8b63d8b",
    ),
    "smartseq_cortex": Dataset(
        "mouse cortex, dissociated, SMART-seq, 21,697 cells, 36,826 genes",
        "Tasic et al., Nature 563 (2018), doi:10.1038/s41586-018-0654-5",
        "terms of use of the Allen Institute",
        "example data of squidpy",
        f"{_SCVERSE}sc_mouse_cortex.h5ad",
        "3e0a26e1af06c1ea8f53a808ee683bf950de8cc03ee48bd291f95eeca6056aac",
    ),
    "mouse_brain_st": Dataset(
        "mouse brain, Spatial Transcriptomics, 8 half sections, 940 to 1,323 spots each, 4,000 genes",
        "Bergenstråhle et al., BMC Genomics 21 (2020), doi:10.1186/s12864-020-06832-3",
        "MIT + file LICENSE",
        "github.com/jbergenstrahle/STUtility, inst/extdata/counts/Hippo1.tsv.gz to Hippo8.tsv.gz",
    ),
    "mouse_embryo_seqfish": Dataset(
        "mouse embryos, seqFISH, 3 embryos, 2,986 to 4,607 cells each, 351 genes, log-normalised",
        "Lohoff et al., Nature Biotechnology 40 (2022), doi:10.1038/s41587-021-01006-2",
        "GPL-2",
        "github.com/SydneyBioX/wSIR, data/MouseData.rda",
    ),
    "mouse_v1_starmap_1k": Dataset(
        "mouse visual cortex, STARmap, one section, 1,549 cells, 1,020 genes",
        "Wang et al., Science 361 (2018), doi:10.1126/science.aat5691",
        "GPL-3",
        "github.com/prabhakarlab/Banksy_py, data/starmap/starmap_BY3_1k.h5ad",
    ),
    "mouse_cortex_zeisel550_sc": Dataset(
        "mouse cortex and CA1, dissociated, STRT-seq, 550 cells, 19,972 genes",
        "Zeisel et al., Science 347 (2015), doi:10.1126/science.aaa1934",
        "GPL-3",
        "github.com/kharchenkolab/gpsFISH, data/sc_count.rda and sc_cluster.rda",
    ),
}
