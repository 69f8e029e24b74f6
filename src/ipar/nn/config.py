"""One config for the whole IPA-Lite family."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

Geometry = Literal["none", "monotone", "clamped", "rbf", "point"]
GateSupervision = Literal["T1", "T2", "mix"]


@dataclass(frozen=True)
class IPALiteConfig:
    """Shape of an :class:`IPALiteNet`; every member of the family is one choice of these switches.

    Attributes
    ----------
    d_input
        Width of the embedding.
    d_state
        Width of the node state (c_s).
    n_heads, d_head
        Attention heads and their width.
    n_recycles
        Passes over the set.
    shared
        One block for all recycles; otherwise each has its own weights.
    qk_norm
        Layer norm without weights on queries and keys, so that a logit is a learned scale (√d at first) times a cosine.
        Blocks that are not shared need it: without, the spread of the logits grows without bound.
    geometry
        Term of the logits that looks at the current layout.

        ``"none"``
            No term. A shared block still owns the weights γ of ``"clamped"``, so that it can be switched on for trained
            weights.
        ``"clamped"``
            −softplus(γ_h)·‖x_i − x_j‖², not below −10.
        ``"monotone"``
            The same without the clamp. Harmful; it warns.
        ``"rbf"``
            Weighted Gaussians of the distance over the median distance of candidates.
        ``"point"``
            Point attention: the clamped term between points displaced by offsets that each cell learns.
    geometry_recycles
        Recycles with the geometry term, negative ones counted from the last; all, if None.
    pair_bias
        A bias a head from a network on pairs of embeddings.
    gate_heads
        Outputs of the gate that goes with the network: 1, or one a head.
    gate_supervision
        What the gate is taught to point at: targets of one step of the true random walk (``"T1"``), of two steps
        (``"T2"``), or the mean of both (``"mix"``). One step was best wherever it was measured.
    qk, gate
        Whether the product of query and key, and the gate's scores, count in the logits. Without ``qk`` there are no such
        weights; without ``gate`` it is trained but weighs nothing. For :meth:`without`.
    per_recycle
        Clamped scale τ_r, gate weight β_r and step gate η_r of every recycle instead of one fixed ``beta``.
    beta
        Weight of the gate on the attention logits while training.
    coord_noise
        Standard deviation, in RMS radii, of the noise on the first guess while training.

    Raises
    ------
    ValueError
        If a switch has no such value or two do not go together.

    Warns
    -----
    UserWarning
        If ``geometry="monotone"``, or blocks of their own go without ``qk_norm``.
    """

    d_input: int = 128
    d_state: int = 96
    n_heads: int = 4
    d_head: int = 32
    n_recycles: int = 5
    shared: bool = True
    qk_norm: bool = False
    geometry: Geometry = "none"
    geometry_recycles: tuple[int, ...] | None = None
    pair_bias: bool = False
    gate_heads: int = 1
    gate_supervision: GateSupervision = "T1"
    qk: bool = True
    gate: bool = True
    per_recycle: bool = False
    beta: float = 2.0
    coord_noise: float = 0.05

    def __post_init__(self) -> None:
        if self.geometry not in get_args(Geometry):
            msg = f"geometry must be one of {get_args(Geometry)}, found {self.geometry!r}."
            raise ValueError(msg)
        if self.gate_supervision not in get_args(GateSupervision):
            msg = f"gate_supervision must be one of {get_args(GateSupervision)}, found {self.gate_supervision!r}."
            raise ValueError(msg)
        if self.n_recycles < 1:
            msg = f"n_recycles must be at least 1, found {self.n_recycles}."
            raise ValueError(msg)
        if self.gate_heads not in (1, self.n_heads):
            msg = f"gate_heads must be 1 or n_heads={self.n_heads}, found {self.gate_heads}."
            raise ValueError(msg)
        if self.geometry_recycles is not None:
            object.__setattr__(self, "geometry_recycles", tuple(self.geometry_recycles))  # a list, from JSON
            self._check_schedule()
        if self.per_recycle and not self.qk_norm:
            msg = "per_recycle clamps the scale of cosines: it needs qk_norm=True."
            raise ValueError(msg)
        if self.per_recycle and not self.beta > 0:
            msg = f"per_recycle scales every gate weight by beta, which must be positive, found {self.beta}: gate=False drops the gate."
            raise ValueError(msg)
        self._warn()

    def _check_schedule(self) -> None:
        wrong = [r for r in self.geometry_recycles or () if not -self.n_recycles <= r < self.n_recycles]
        if wrong:
            msg = f"geometry_recycles must lie in {-self.n_recycles} … {self.n_recycles - 1}, found {wrong}."
            raise ValueError(msg)

    def _warn(self) -> None:
        if self.geometry == "monotone":
            warnings.warn(
                "geometry='monotone' made layouts worse wherever it was measured (E_geo 0.64 against 0.44 with the clamp): "
                "use 'clamped'.",
                UserWarning,
                stacklevel=4,
            )
        if not self.shared and not self.qk_norm:
            warnings.warn(
                "Blocks that are not shared let the spread of attention logits grow without bound: set qk_norm=True.",
                UserWarning,
                stacklevel=4,
            )

    def has_geometry(self, recycle: int) -> bool:
        """Whether the geometry term counts in a recycle."""
        if self.geometry == "none" or self.geometry_recycles is None:
            return self.geometry != "none"
        return recycle in {r % self.n_recycles for r in self.geometry_recycles}

    @property
    def terms(self) -> tuple[str, ...]:
        """Terms of the attention logits that this member has, of ``"qk"``, ``"geometry"``, ``"pair"`` and ``"gate"``."""
        has = {"qk": self.qk, "geometry": self.geometry != "none", "pair": self.pair_bias, "gate": self.gate}
        return tuple(name for name, there in has.items() if there)

    def without(self, term: str) -> IPALiteConfig:
        """The same member with a term of its logits left out.

        Raises
        ------
        ValueError
            If it has no such term.
        """
        if term not in self.terms:
            msg = f"term must be one that the config has, {self.terms}, found {term!r}."
            raise ValueError(msg)
        off: dict[str, dict[str, Any]] = {
            "qk": {"qk": False},
            "geometry": {"geometry": "none"},
            "pair": {"pair_bias": False},
            "gate": {"gate": False},
        }
        return replace(self, **off[term])

    @classmethod
    def v1(cls, **overrides: Any) -> IPALiteConfig:
        """The default member: one block shared by five recycles, no geometry term."""
        return cls(**overrides)

    @classmethod
    def v2(cls, **overrides: Any) -> IPALiteConfig:
        """Three recycles with weights of their own and QK-norm."""
        own: dict[str, Any] = {"n_recycles": 3, "shared": False, "qk_norm": True}
        return cls(**own | overrides)

    @classmethod
    def d7(cls, **overrides: Any) -> IPALiteConfig:
        """V1 with QK-norm and the clamped geometry term."""
        own: dict[str, Any] = {"qk_norm": True, "geometry": "clamped"}
        return cls(**own | overrides)

    @classmethod
    def ipar2d(cls, **overrides: Any) -> IPALiteConfig:
        """IPA-R in two dimensions: three blocks, pair bias, scheduled scales, point attention in the last recycle."""
        full: dict[str, Any] = {
            "n_recycles": 3,
            "shared": False,
            "qk_norm": True,
            "geometry": "point",
            "geometry_recycles": (-1,),
            "pair_bias": True,
            "per_recycle": True,
        }
        return cls(**full | overrides)

    @classmethod
    def named(cls, name: str, **overrides: Any) -> IPALiteConfig:
        """A member by its name: ``"v1"``, ``"v2"``, ``"d7"`` or ``"ipar2d"``.

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
        """As plain values, for JSON."""
        return asdict(self)
