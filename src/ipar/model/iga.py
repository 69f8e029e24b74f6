"""The fitted generative model: encoder and flow together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ipar._chunks import Matrix
from ipar._run import Run
from ipar.model.blend import aligned_to
from ipar.model.checks import check_width
from ipar.model.flow import Flow
from ipar.model.given import AnyEncoder, Encoder
from ipar.model.io import SavedModel
from ipar.model.outputs import Features
from ipar.model.regions import Regions
from ipar.model.resemblance import Resemblance
from ipar.model.scale import ExpressionScale
from ipar.model.sharpening import Sharpening, sharpen_layout


@dataclass(frozen=True)
class IGA(SavedModel):
    """A fitted generative model of poses; made by :func:`ipar.tl.fit_iga`, read by :func:`ipar.load`.

    Attributes
    ----------
    encoder
        From expression to the embedding.
    flow
        Denoising network and edge gate, from which samples are drawn.
    sharpening
        How cells alike in expression are drawn together in the mean of samples; None leaves this out. Single samples stay
        as they are drawn.
    scale
        How the expression was normalised that it was fitted on.
    resemblance
        Whether cells resemble the training slides; None in three dimensions.
    regions
        Calibration of sets of places, see :func:`ipar.tl.predict_regions`; None in three dimensions.
    record
        Localisability and settings of the fit.
    """

    encoder: Encoder
    flow: Flow
    sharpening: Sharpening | None = None
    scale: ExpressionScale | None = None
    resemblance: Resemblance | None = None
    regions: Regions | None = None
    record: dict[str, Any] = field(default_factory=dict)

    kind: ClassVar[str] = "ipar.IGA"
    version: ClassVar[int] = 4
    stages: ClassVar[dict[str, Any]] = {
        "encoder": AnyEncoder,
        "flow": Flow,
        "sharpening": Sharpening,
        "scale": ExpressionScale,
        "resemblance": Resemblance,
        "regions": Regions,
    }

    def __post_init__(self) -> None:
        """Compare the sizes of parts, which a model read from a file may have from anywhere."""
        check_width("input of the flow", self.flow.net.config.d_input, self.encoder.n_output)
        if self.resemblance is not None:
            self.resemblance.known.check_sizes(self.encoder.n_output, len(self.encoder.genes))
        if self.scale is not None:
            check_width("number of genes of the scale", len(self.scale.means), len(self.encoder.genes))

    def __repr__(self) -> str:
        config = self.flow.net.config
        fitted = f"{len(self.encoder.genes)} genes, inputs={self.encoder.record.get('inputs')!r}"
        return f"IGA({fitted}, n_dims={config.n_dims}, attention_geometry={config.attention_geometry!r})"

    @property
    def modules(self) -> list[torch.nn.Module]:
        """All its networks."""
        return [*self.encoder.modules, *self.flow.modules]

    def features(self, matrix: Matrix, genes: pd.Index, slides: pd.Categorical) -> Features:
        """What the encoder says of cells; arguments are those of :meth:`GeometryEncoder.features`."""
        return self.encoder.features(matrix, genes, slides)

    def sharpened(
        self, layout: NDArray[np.float32], features: Features, slide_pcs: NDArray[np.float32] | None, run: Run
    ) -> NDArray[np.float32]:
        """A mean of samples ``(n, 2)`` with its neighbourhoods sharpened, turned onto what it was before.

        As it is, where the model has no sharpening.
        """
        if self.sharpening is None:
            return layout
        sharp = sharpen_layout(layout, features, self.sharpening, slide_pcs, run)
        turned: NDArray[np.float32] = aligned_to(torch.from_numpy(sharp)[None], torch.from_numpy(layout))[0].numpy()
        return turned
