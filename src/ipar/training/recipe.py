"""All knobs of a fit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ipar.nn import IGAConfig, IPALiteConfig
from ipar.training.encoder import EncoderRecipe
from ipar.training.finish import FinishRecipe
from ipar.training.flow import FlowRecipe
from ipar.training.network import NetworkRecipe
from ipar.training.uncertainty import UncertaintyRecipe


@dataclass(frozen=True)
class Recipe:
    """How a model is fitted, stage by stage; the defaults are those of :func:`ipar.tl.fit_ipalite`.

    Attributes
    ----------
    embed
        The encoder: expression to embedding and global features.
    network
        The layout network and its gate.
    flow
        The generative model of poses; None leaves it out.
    finish
        Shares of the layouts, and the sharpening that is tried.
    uncertainty
        The expected error per cell.
    most_cells
        Cells per slide that choices are scored on.
    """

    embed: EncoderRecipe = field(default_factory=EncoderRecipe)
    network: NetworkRecipe = field(default_factory=NetworkRecipe)
    flow: FlowRecipe | None = field(default_factory=FlowRecipe)
    finish: FinishRecipe = field(default_factory=FinishRecipe)
    uncertainty: UncertaintyRecipe = field(default_factory=UncertaintyRecipe)
    most_cells: int = 1500

    def with_network(
        self,
        config: IPALiteConfig | str | None = None,
        n_neighbors: int | None = None,
        n_minisets: int | None = None,
    ) -> Recipe:
        """The same with another layout network (a member of the family by name, or switches) or minisets.

        Raises
        ------
        ValueError
            If there is no such member, or a number is below 1.
        """
        network = self.network
        if config is not None:
            network = replace(network, config=IPALiteConfig.named(config) if isinstance(config, str) else config)
        given = {"n_neighbors": n_neighbors, "n_minisets": n_minisets}
        numbers: dict[str, Any] = {name: _positive(name, value) for name, value in given.items() if value is not None}
        return replace(self, network=replace(network, plan=replace(network.plan, **numbers)))

    def with_flow(self, config: IGAConfig | None = None, n_neighbors: int | None = None) -> Recipe:
        """The same with another denoising network or number of its candidates."""
        flow = self.flow or FlowRecipe()
        if config is not None:
            flow = replace(flow, config=config)
        if n_neighbors is not None:
            flow = replace(flow, plan=replace(flow.plan, n_neighbors=_positive("n_neighbors", n_neighbors)))
        return replace(self, flow=flow)

    def with_epochs(self, max_epochs: int | None) -> Recipe:
        """The same with another number of epochs of network and flow.

        Raises
        ------
        ValueError
            If it is below 1.
        """
        if max_epochs is None:
            return self
        network, flow = self.network, self.flow
        # a short run still reaches the full walk weight, otherwise no epoch would count
        ramp = max(1, min(network.training.ramp_epochs, _positive("max_epochs", max_epochs) // 2))
        network = replace(network, training=replace(network.training, max_epochs=max_epochs, ramp_epochs=ramp))
        if flow is not None:
            flow = replace(flow, training=replace(flow.training, max_epochs=max_epochs))
        return replace(self, network=network, flow=flow)


def _positive(name: str, value: int) -> int:
    if value < 1:
        msg = f"{name} must be at least 1, found {value}."
        raise ValueError(msg)
    return value
