"""One config for the whole IPA-Lite family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

from ipar._options import Checked, Count, Depth, Steps, Weight

Geometry = Literal["none", "monotone", "clamped", "rbf", "point"]
GateSupervision = Literal["T1", "T2", "mix"]
QKNorm = Literal["scaled", "cosine"]


@dataclass(frozen=True)
class IPALiteConfig(Checked):
    """Shape of an :class:`IPALiteNet`. Every member of the family is one choice of these switches.

    Attributes
    ----------
    d_input
        Width of the embedding.
    d_state
        Width of the node states.
    n_heads, d_head
        Attention heads and their width.
    n_recycles
        Passes over the set.
    shared
        Use one block for all recycles. Otherwise each recycle has its own weights, and `qk_norm` is needed.
    qk_norm
        How queries and keys are normalised.

        ``None``
            They are not: the logit is q·k / √d.
        ``"scaled"``
            τ·(LN(q)·LN(k)), with LayerNorm without affine and a learned τ, at first √d. Logits start with a standard deviation
            near d.
        ``"cosine"``
            The same over d: τ times the cosine of centred query and key. Logits start with a standard deviation near 1.
    geometry
        Term of the logits that reads the current layout.

        ``"none"``
            No term. A shared block still has the weights γ of ``"clamped"``, which can be switched on after training.
        ``"clamped"``
            −softplus(γ_h)·‖x_i − x_j‖², at least −10.
        ``"monotone"``
            The same without the clamp. It was reported to make layouts worse.
        ``"rbf"``
            Weighted Gaussians of the distance over the median distance of candidates.
        ``"point"``
            Point attention: the clamped term between points displaced by offsets that each cell learns.
    geometry_recycles
        Recycles with the geometry term, counted from the end if negative (default: all).
    pair_bias
        Add a bias per head from a network on pairs of embeddings.
    gate_heads
        Outputs of the gate: 1, or one per head.
    gate_supervision
        Targets of the gate: one step of the true random walk (``"T1"``), two steps (``"T2"``), or both (``"mix"``), whose
        divergences are added.
    qk, gate
        Whether the product of query and key, and the gate's scores, count in the logits. See :meth:`without`.
    per_recycle
        Give every recycle its own scale τ_r, gate weight β_r and step gate η_r instead of one fixed `beta`.
    beta
        Weight of the gate in the logits.
    coord_noise
        Standard deviation of the noise on the first guess in training, in RMS radii.

    Raises
    ------
    ValueError
        If a switch has no such value, or two switches do not go together.
    """

    d_pair: ClassVar[int] = 32
    """Width of the pair features that `pair_bias` reads."""

    d_input: Count = 128
    d_state: Count = 96
    n_heads: Steps = 4
    d_head: Count = 32
    n_recycles: Depth = 5
    shared: bool = True
    qk_norm: QKNorm | None = None
    geometry: Geometry = "none"
    geometry_recycles: tuple[int, ...] | None = None
    pair_bias: bool = False
    gate_heads: Count = 1
    gate_supervision: GateSupervision = "T1"
    qk: bool = True
    gate: bool = True
    per_recycle: bool = False
    beta: Weight = 2.0
    coord_noise: Weight = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gate_heads not in (1, self.n_heads):
            msg = f"gate_heads must be 1 or n_heads={self.n_heads}, found {self.gate_heads}."
            raise ValueError(msg)
        if self.geometry_recycles is not None:
            object.__setattr__(self, "geometry_recycles", tuple(self.geometry_recycles))  # a list, from JSON
        wrong = [r for r in self.geometry_recycles or () if not -self.n_recycles <= r < self.n_recycles]
        if wrong:
            msg = f"geometry_recycles must lie in {-self.n_recycles} … {self.n_recycles - 1}, found {wrong}."
            raise ValueError(msg)
        if self.per_recycle and not self.qk_norm:
            msg = (
                "per_recycle limits the scale τ of qk_norm and needs one, found qk_norm=None: use 'scaled' or 'cosine'."
            )
            raise ValueError(msg)
        if self.per_recycle and not self.beta > 0:
            msg = f"per_recycle needs a positive beta, found {self.beta}: use gate=False to leave the gate out."
            raise ValueError(msg)

    def has_geometry(self, recycle: int) -> bool:
        """Whether a recycle has the geometry term."""
        if self.geometry == "none" or self.geometry_recycles is None:
            return self.geometry != "none"
        return recycle in {r % self.n_recycles for r in self.geometry_recycles}

    @property
    def terms(self) -> tuple[str, ...]:
        """Terms of the attention logits: those of ``"qk"``, ``"geometry"``, ``"pair"`` and ``"gate"`` that are on."""
        has = {"qk": self.qk, "geometry": self.geometry != "none", "pair": self.pair_bias, "gate": self.gate}
        return tuple(name for name, there in has.items() if there)

    def without(self, term: str) -> IPALiteConfig:
        """Leave a term of the logits out.

        Raises
        ------
        ValueError
            If the config has no such term.
        """
        if term not in self.terms:
            msg = f"term must be one that the config has, {self.terms}, found {term!r}."
            raise ValueError(msg)
        off: dict[str, dict[str, Any]] = {"geometry": {"geometry": "none"}, "pair": {"pair_bias": False}}
        return replace(self, **off.get(term, {term: False}))

    @classmethod
    def v1(cls, **overrides: Any) -> IPALiteConfig:
        """The default member: one block shared by five recycles, no geometry term."""
        return cls(**overrides)

    @classmethod
    def v2(cls, **overrides: Any) -> IPALiteConfig:
        """Three recycles with weights of their own and QK-norm."""
        own: dict[str, Any] = {"n_recycles": 3, "shared": False, "qk_norm": "scaled"}
        return cls(**own | overrides)

    @classmethod
    def d7(cls, **overrides: Any) -> IPALiteConfig:
        """V1 with QK-norm and the clamped geometry term."""
        own: dict[str, Any] = {"qk_norm": "scaled", "geometry": "clamped"}
        return cls(**own | overrides)

    @classmethod
    def ipar2d(cls, **overrides: Any) -> IPALiteConfig:
        """IPA-R in two dimensions: three blocks, pair bias, scheduled scales, point attention in the last recycle."""
        blocks: dict[str, Any] = {"n_recycles": 3, "shared": False, "qk_norm": "scaled", "per_recycle": True}
        terms: dict[str, Any] = {"geometry": "point", "geometry_recycles": (-1,), "pair_bias": True}
        return cls(**blocks | terms | overrides)

    @classmethod
    def named(cls, name: str, **overrides: Any) -> IPALiteConfig:
        """The member ``"v1"``, ``"v2"``, ``"d7"`` or ``"ipar2d"``.

        Raises
        ------
        ValueError
            If there is no such member.
        """
        members = {"v1": cls.v1, "v2": cls.v2, "d7": cls.d7, "ipar2d": cls.ipar2d}
        if name not in members:
            msg = f"config must be one of {tuple(members)} or an IPALiteConfig, found {name!r}."
            raise ValueError(msg)
        return members[name](**overrides)

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> IPALiteConfig:
        """The config that :meth:`to_dict` describes, also in earlier versions, where ``"cosine"`` was True."""
        norm = values.get("qk_norm")
        return cls(**{**values, "qk_norm": {True: "cosine", False: None}[norm] if isinstance(norm, bool) else norm})
