"""The fitted model: from expression to features, layouts, their blend, sharpened, and an expected error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ipar._chunks import Matrix, Rows, as_rows
from ipar._run import Run
from ipar.geometry import apply_similarity, procrustes_transform
from ipar.graph.nearest import Nearest
from ipar.graph.neighbors import cells_by_slide
from ipar.model.adapter import Adapter
from ipar.model.blend import Blend, aligned_to
from ipar.model.checks import check_width
from ipar.model.features import reordered
from ipar.model.flow import MIN_CELLS as FLOW_CELLS
from ipar.model.flow import Flow
from ipar.model.genes import match_genes
from ipar.model.given import AnyEncoder, Encoder, GivenEncoder
from ipar.model.io import SavedModel
from ipar.model.matching import Centring
from ipar.model.network import NetworkLayout
from ipar.model.outputs import Features, Layout
from ipar.model.placement import OnReference, Placement
from ipar.model.reference import Reference, ReferenceSlide
from ipar.model.regions import Regions
from ipar.model.resemblance import Resemblance
from ipar.model.scale import ExpressionScale
from ipar.model.sharpening import Sharpening, sharpen_layout, start_sharpening
from ipar.model.uncertainty import UncertaintyHead, spread_of

MIN_CELLS = 4  # fewer points have no shape beyond a triangle


@dataclass(frozen=True)
class SlideRows:
    """Expression of one slide in the order of a model's genes, and which of these it has, ``(n_genes,)``."""

    matrix: Rows
    present: NDArray[np.bool_]


@dataclass(frozen=True)
class IPALite(SavedModel):
    """A fitted IPA-Lite model; made by :func:`ipar.tl.fit_ipalite`, read by :func:`ipar.load`.

    Attributes
    ----------
    encoder
        From expression to the embedding and the global features, or an embedding of the user's as it is.
    network
        Layout network and its edge gate.
    flow
        Generative model of poses on the same embedding; None in a model that was fitted without.
    blend
        Shares of the network's layout, the global map and the flow's expected layout.
    sharpening
        How cells alike in expression are drawn together at last; None leaves this out.
    uncertainty
        Expected error of every cell; None in a model that has none.
    regions
        Calibration of sets of places, see :func:`ipar.tl.predict_regions`; None in a model that has none.
    reference
        The training slides, kept small, onto which cells can be placed; None in a model without.
    adapter
        Shift and scale of the genes of cells of another technology, see :func:`ipar.tl.adapt`; None without.
    resemblance
        Whether cells resemble the training slides; None in a model that was fitted on an embedding from elsewhere.
    centring
        How the genes of a query are centred, where there is a reference.
    scale
        How the expression was normalised that it was fitted on; None where it reads an embedding of the user's.
    record
        Localisability and settings of the fit.
    """

    encoder: Encoder
    network: NetworkLayout
    flow: Flow | None = None
    blend: Blend = field(default_factory=Blend)
    sharpening: Sharpening | None = None
    uncertainty: UncertaintyHead | None = None
    regions: Regions | None = None
    reference: Reference | None = None
    adapter: Adapter | None = None
    resemblance: Resemblance | None = None
    centring: Centring = field(default_factory=Centring)
    scale: ExpressionScale | None = None
    record: dict[str, Any] = field(default_factory=dict)

    kind: ClassVar[str] = "ipar.IPALite"
    version: ClassVar[int] = 7
    stages: ClassVar[dict[str, Any]] = {
        "encoder": AnyEncoder,
        "network": NetworkLayout,
        "flow": Flow,
        "blend": Blend,
        "sharpening": Sharpening,
        "uncertainty": UncertaintyHead,
        "regions": Regions,
        "reference": Reference,
        "adapter": Adapter,
        "resemblance": Resemblance,
        "scale": ExpressionScale,
    }

    def __post_init__(self) -> None:
        """Compare the sizes of parts, which a model read from a file may have from anywhere."""
        width, n_genes = self.encoder.n_output, len(self.encoder.genes)
        check_width("input of the network", self.network.net.config.d_input, width)
        if self.flow is not None:
            check_width("input of the flow", self.flow.net.config.d_input, width)
        if self.reference is not None:
            check_width("width of the reference", len(self.reference.centre), width)
            check_width("number of genes of the reference", len(self.reference.mean), n_genes)
        if self.uncertainty is not None:
            check_width("width of the uncertainty", len(self.uncertainty.centre), width)
        if self.adapter is not None:
            check_width("number of genes of the adapter", len(self.adapter.mean), n_genes)
        if self.resemblance is not None:
            self.resemblance.known.check_sizes(width, n_genes)
        if self.scale is not None:
            check_width("number of genes of the scale", len(self.scale.means), n_genes)

    def __repr__(self) -> str:
        fitted = f"{len(self.encoder.genes)} genes, inputs={self.encoder.record.get('inputs')!r}"
        return f"IPALite({fitted}, n_neighbors={self.network.n_neighbors}, flow={self.flow is not None})"

    @property
    def modules(self) -> list[torch.nn.Module]:
        """All its networks."""
        return [*self.encoder.modules, *self.network.modules, *([] if self.flow is None else self.flow.modules)]

    @property
    def n_nearest(self) -> int:
        """Nearest cells in the embedding that a prediction reads, for candidates and for sharpening."""
        sought = 0 if self.sharpening is None else self.sharpening.n_candidates
        return max(self.network.n_neighbors, sought)

    @property
    def least_cells(self) -> int:
        """Cells that a slide must have for a layout; more where the flow takes part in it, or in its expected error."""
        flows = self.flow is not None and (
            bool(self.blend.flow) or getattr(self.uncertainty, "joint", None) is not None
        )
        return FLOW_CELLS if flows else MIN_CELLS

    def features(self, matrix: Matrix, genes: pd.Index, slides: pd.Categorical) -> Features:
        """What the encoder says of cells; arguments are those of :meth:`GeometryEncoder.features`.

        Genes are centred on what a slide shares with the training slides, or on its mean in a model without reference. Slides
        that the adapter was made for pass through it.
        """
        slide, n = self.matched(matrix, genes), len(slides)
        found = [(rows, self.features_of_slide(slide(rows))) for rows in cells_by_slide(slides, n) if len(rows)]
        order = np.argsort(np.concatenate([rows for rows, _ in found]), kind="stable")
        embedding, across = (np.concatenate([own[i] for _, own in found])[order] for i in range(2))
        return Features(embedding, across)

    def matched(self, matrix: Matrix, genes: pd.Index) -> Callable[[NDArray[np.int64]], SlideRows]:
        """What cells of one slide, named by ascending rows, express, in the encoder's order of genes."""
        present = genes.get_indexer(self.encoder.genes) >= 0
        rows = as_rows(match_genes(matrix, genes, self.encoder.genes))
        return lambda own: SlideRows(rows.select(own), present)

    def adapts(self, matrix: Matrix) -> bool:
        """Whether cells of one slide, with genes in the encoder's order, pass through the adapter."""
        if self.adapter is None or self.reference is None or isinstance(self.encoder, GivenEncoder):
            return False
        return self.adapter.fits(as_rows(matrix).mean, self.reference)

    def features_of_slide(self, slide: SlideRows) -> Features:
        """What the encoder says of the cells of one slide."""
        own, matrix = self.encoder, slide.matrix
        if self.reference is None:
            return own.features_of_slide(matrix)
        if self.adapter is not None and not isinstance(own, GivenEncoder) and self.adapts(matrix):
            return self.adapter.adapted(own).features_of_slide(matrix, slide.present * self.adapter.centre)
        return own.features_of_slide(matrix, self.centring.centre(own, self.reference, matrix, slide.present))

    def slide_pcs(self, slide: SlideRows) -> NDArray[np.float32] | None:
        """Principal components of one slide by itself, ``(n, 100)``; None where sharpening does not read them."""
        if self.sharpening is None or not self.sharpening.slide_pc_share:
            return None
        label: pd.Categorical[Any] = pd.Categorical(np.full(slide.matrix.shape[0], "slide"))
        return self.encoder.slide_pcs(slide.matrix, self.encoder.genes, label)

    def layout(
        self,
        features: Features,
        slide_pcs: NDArray[np.float32] | None = None,
        run: Run | None = None,
        near: Nearest | None = None,
    ) -> Layout:
        """Lay out one slide of any size.

        Parameters
        ----------
        features
            What :meth:`GeometryEncoder.features` says of its cells.
        slide_pcs
            What :meth:`GeometryEncoder.slide_pcs` says of them; sharpening does without, if None.
        run
            Seed of the consensus subsets and the flow's noise, and whether to show bars.
        near
            The nearest cells in the embedding; sharpening seeks them, if None.

        Raises
        ------
        ValueError
            If there are fewer than four cells.
        """
        return self.begin(features, run)(slide_pcs, near)()

    def begin(
        self, features: Features, run: Run | None = None
    ) -> Callable[[NDArray[np.float32] | None, Nearest | None], Callable[[], Layout]]:
        """The steps of :meth:`layout`, which workers of a cluster do while other work is done.

        This starts the network. What it gives takes the slide PCs and the nearest cells, and starts the sharpening; what that
        gives waits for the layout.
        """
        run, n = run or Run(), len(features.embedding)
        if n < MIN_CELLS:
            msg = f"At least {MIN_CELLS} cells are needed for a layout, found {n}."
            raise ValueError(msg)
        order, features = features.in_order()
        laid_out = self.network.start(features.embedding, run)

        def sharpen(slide_pcs: NDArray[np.float32] | None, near: Nearest | None) -> Callable[[], Layout]:
            recycles = laid_out()
            expected = self.flow.expected_layout(features.embedding, run) if self.flow and self.blend.flow else None
            blended = self.blend.apply(recycles[-1], features.global_features, expected)
            pcs = None if slide_pcs is None else reordered(slide_pcs, order)
            near = None if near is None else near.in_order(order)
            # its pairs keep their seed: a direct layout has no randomness of its own
            own, how = replace(run, seed=0), self.sharpening
            sharp = None if how is None else start_sharpening(blended.numpy(), features, how, pcs, own, near)
            return partial(self._finished, recycles, blended, sharp, np.argsort(order))

        return sharpen

    def _finished(
        self,
        recycles: torch.Tensor,
        blended: torch.Tensor,
        sharp: Callable[[], NDArray[np.float32]] | None,
        back: NDArray[np.intp],
    ) -> Layout:
        finished = blended if sharp is None else torch.from_numpy(sharp())
        method = self.network.method(len(back))
        return Layout(finished.numpy()[back], aligned_to(recycles, finished).numpy()[:, back], method)

    def on_reference(
        self,
        features: Features,
        layout: NDArray[np.float32] | None,
        slide: ReferenceSlide,
        placement: Placement,
        slide_pcs: NDArray[np.float32] | None = None,
        run: Run | None = None,
        near: Nearest | None = None,
    ) -> OnReference:
        """Place the cells of one slide on a reference slide.

        Parameters
        ----------
        features
            As in :meth:`layout`.
        layout
            Their finished layout, ``(n, 2)``; without one, cells go to the mean of their matches.
        slide
            A slide of the model's reference.
        placement
            How cells are placed.
        slide_pcs, run, near
            As in :meth:`layout`. With a layout, positions are sharpened as layouts are.
        """
        if self.reference is None:
            msg = "The model keeps no reference: fit it with keep_reference=True."
            raise ValueError(msg)
        run = run or Run()
        found = placement.place(self.reference.project(features.embedding), layout, slide, run.seed)
        if layout is None:
            return found
        coords = found.coords
        if self.sharpening is not None and found.shift <= placement.most_shift:
            how = replace(self.sharpening, global_share=0.0)  # positions on the slide are what is to be held
            placed = torch.from_numpy(coords - slide.coords.mean(axis=0))
            # in the frame of the layout: Adam's steps are not those of a turned start
            onto = procrustes_transform(placed, torch.from_numpy(layout).double())
            start = apply_similarity(placed, onto).numpy().astype(np.float32)
            sharp = torch.from_numpy(sharpen_layout(start, features, how, slide_pcs, run, near)).double()
            coords = apply_similarity(sharp, procrustes_transform(sharp, torch.from_numpy(coords))).numpy()
        return replace(found, coords=placement.moved(coords, slide, run.seed))

    def expected_error(
        self, features: Features, run: Run | None = None, near: Nearest | None = None
    ) -> NDArray[np.float32] | None:
        """How far each cell of a slide may be expected from its true place.

        Parameters
        ----------
        features
            As in :meth:`layout`.
        run
            Seed of the flow's samples, whose spread is read where the model has a flow, and whether to show a bar.
        near
            As in :meth:`layout`.

        Returns
        -------
        NDArray or None
            Expected distance after alignment, in RMS radii of the tissue, ``(n,)``; None without an uncertainty head.
        """
        if self.uncertainty is None:
            return None
        sampled = self.flow if self.uncertainty.joint is not None else None
        spread = None if sampled is None else spread_of(sampled, features.embedding, self.uncertainty, run or Run())
        return self.uncertainty.expected_error(features, spread, near)
