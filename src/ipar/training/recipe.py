"""All knobs of a fit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from ipar._options import Checked, Count, check
from ipar.nn import IGAConfig, IPALiteConfig
from ipar.training.encoder import EncoderRecipe
from ipar.training.finish import FinishRecipe
from ipar.training.flow import FlowRecipe
from ipar.training.held_out import MinisetPlan
from ipar.training.network import IPALiteTraining, NetworkRecipe
from ipar.training.regions import RegionRecipe
from ipar.training.uncertainty import UncertaintyRecipe

Quality = Literal["fast", "default", "best"]


@dataclass(frozen=True)
class Recipe(Checked):
    """How a model is fitted, stage by stage; the defaults are those of :func:`ipar.tl.fit_ipalite`.

    Attributes
    ----------
    embed
        The encoder: expression to embedding and global features.
    network
        The layout network and its gate.
    flow
        The generative model of poses; None for none.
    finish
        Shares of the layouts, and the sharpening that is tried.
    uncertainty
        The expected error per cell.
    regions
        Sets of places per cell.
    most_cells
        Cells per slide that choices are scored on.
    """

    embed: EncoderRecipe = field(default_factory=EncoderRecipe)
    network: NetworkRecipe = field(default_factory=NetworkRecipe)
    flow: FlowRecipe | None = None
    finish: FinishRecipe = field(default_factory=FinishRecipe)
    uncertainty: UncertaintyRecipe = field(default_factory=UncertaintyRecipe)
    regions: RegionRecipe = field(default_factory=RegionRecipe)
    most_cells: Count = 1500

    @classmethod
    def of(cls, quality: Quality) -> Recipe:
        """The recipe of a quality: :meth:`fast`, the default, or :meth:`best`.

        Raises
        ------
        ValueError
            If there is no such quality.
        """
        check("quality", quality, Quality)
        return cls() if quality == "default" else cls.fast() if quality == "fast" else cls.best()

    @classmethod
    def fast(cls) -> Recipe:
        """A first look: few steps at high learning rates, half of the minisets, one sharpening tried."""
        embed = EncoderRecipe().hurried(2.0)
        training = IPALiteTraining(max_epochs=5, ramp_epochs=2, gate_steps=150)
        network = NetworkRecipe(plan=MinisetPlan(n_minisets=32), training=training, refit_epochs=2)
        return cls(embed, network, finish=FinishRecipe(holds=(0.6,), slide_pc_shares=(0.2,)))

    @classmethod
    def best(cls) -> Recipe:
        """The most accurate: twice the steps at lower learning rates, and the flow."""
        return cls(
            EncoderRecipe().hurried(0.5),
            NetworkRecipe(training=IPALiteTraining(max_epochs=12, lr=5e-4, ramp_epochs=6, patience=4), refit_epochs=6),
            FlowRecipe(),
        )

    def costs(self, *, embedded: bool = False) -> dict[str, float]:
        """Stages of a fit by name, in order, with about the seconds that each takes of two sections on two CPU cores.

        Stages of the encoder are left out of slides that are embedded.
        """
        network, flow = self.network, self.flow
        epochs = network.training.max_epochs + network.refit_epochs
        last = {"network": 0.05 * epochs * network.plan.n_minisets + 0.03 * network.training.gate_steps}
        if flow is not None:
            last["flow"] = 0.1 * (flow.training.max_epochs + flow.refit_epochs) * flow.plan.n_minisets
        n_tried = 1 + len(self.finish.holds) * len(self.finish.slide_pc_shares)
        return (
            ({} if embedded else self.embed.costs)
            | last
            | {"finish": 0.5 * n_tried, "expected error": 0.3, "regions": 0.5}
        )

    def refused(self) -> Recipe:
        """What is left of it for a tissue that cannot be localised: no flow, and no more work than :meth:`fast` has."""
        own, fast = self.network, Recipe.fast()
        least = {
            name: min(getattr(own.training, name), getattr(fast.network.training, name))
            for name in ("max_epochs", "ramp_epochs", "gate_steps")
        }
        plan = replace(own.plan, n_minisets=min(own.plan.n_minisets, fast.network.plan.n_minisets))
        network = replace(own, plan=plan, training=replace(own.training, **least))
        finish = replace(self.finish, holds=fast.finish.holds, slide_pc_shares=fast.finish.slide_pc_shares)
        return replace(self, network=network, flow=None, finish=finish)

    def with_network(
        self,
        config: IPALiteConfig | str | None = None,
        n_neighbors: int | None = None,
    ) -> Recipe:
        """The same with another layout network (a member of the family by name, or switches) or number of candidates.

        Raises
        ------
        ValueError
            If there is no such member, or a number is below 1.
        """
        config = IPALiteConfig.named(config) if isinstance(config, str) else config
        plan = self.network.plan.with_numbers(n_neighbors=n_neighbors)
        return replace(self, network=replace(self.network, config=config or self.network.config, plan=plan))

    def with_flow(self, config: IGAConfig | None = None, n_neighbors: int | None = None) -> Recipe:
        """The same with another denoising network or number of its candidates."""
        flow = self.flow or FlowRecipe()
        plan = flow.plan.with_numbers(n_neighbors=n_neighbors)
        return replace(self, flow=replace(flow, config=config or flow.config, plan=plan))

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
        check("max_epochs", max_epochs, Count)
        # a short run still reaches the full walk weight, otherwise no epoch would count
        ramp = max(1, min(network.training.ramp_epochs, max_epochs // 2))
        network = replace(network, training=replace(network.training, max_epochs=max_epochs, ramp_epochs=ramp))
        if flow is not None:
            flow = replace(flow, training=replace(flow.training, max_epochs=max_epochs))
        return replace(self, network=network, flow=flow)
