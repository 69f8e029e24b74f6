"""The members of the IPA-Lite family, the controls beside them, and what was reported of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ipar.nn import IPALiteConfig

DEFAULT_NEIGHBORS = 100


@dataclass(frozen=True)
class Member:
    """One row of the family table.

    Attributes
    ----------
    label
        Its name in the table.
    base, switches
        The config: a named member, and what differs from it.
    n_neighbors
        Candidates per cell.
    gated
        Whether the gate counts.
    embedding
        ``"own"``, or ``"random"`` for Gaussian noise in its place.
    trained
        False for the oracle, which is no network.
    reported
        E_geo of the design, by networks whose encoder had seen the scored slide's coordinates.
    energy
        The same as one number, where there is one, to compare orders.
    """

    label: str
    base: str = "v1"
    switches: dict[str, Any] = field(default_factory=dict)
    n_neighbors: int = DEFAULT_NEIGHBORS
    gated: bool = True
    embedding: str = "own"
    trained: bool = True
    reported: str = "–"
    energy: float | None = None

    def config(self) -> IPALiteConfig:
        """Its config."""
        return IPALiteConfig.named(self.base, **self.switches)


COSINE = {"qk_norm": "cosine"}
LAST = COSINE | {"geometry": "clamped", "geometry_recycles": (-1,)}

MEMBERS = {
    "v1": Member("V1: shared block, 5 recycles", reported="0.43–0.46", energy=0.445),
    "v2_scaled": Member("V2: 3 own blocks, scaled QK-norm", "v2", reported="0.52 ± 0.03"),
    "v2_r3": Member("V2, cosine QK-norm", "v2", COSINE, reported="0.52 ± 0.03", energy=0.52),
    "v2_r5": Member("V2, cosine, 5 blocks", "v2", COSINE | {"n_recycles": 5}, reported="worse than 3"),
    "d7_scaled": Member("D7: V1 + scaled QK-norm + clamped geometry", "d7", reported="0.440 ± 0.014"),
    "d7": Member("D7, cosine QK-norm", "d7", COSINE, reported="0.440 ± 0.014", energy=0.44),
    "monotone": Member(
        "geometry `monotone`, cosine", "v1", COSINE | {"geometry": "monotone"}, reported="0.64 ± 0.11", energy=0.64
    ),
    "v2_last": Member("V2, cosine, geometry in the last recycle", "v2", LAST, reported="0.40", energy=0.4),
    "rbf": Member("geometry `rbf`", "v1", {"geometry": "rbf"}, reported="0.43–0.48", energy=0.455),
    "point": Member("geometry `point`", "v1", {"geometry": "point"}, reported="0.47", energy=0.47),
    "v2_point": Member("V2, cosine, geometry `point`", "v2", COSINE | {"geometry": "point"}, reported="offsets grow"),
    "pair": Member("pair bias", "v1", {"pair_bias": True}, reported="0.57 (base 0.58)"),
    "heads": Member("head-specific gate", "v1", {"gate_heads": 4}, reported="0.49", energy=0.49),
    "t2": Member("gate taught by T²", "v1", {"gate_supervision": "T2"}, reported="0.56 (T¹: 0.50)", energy=0.56),
    "mix": Member(
        "gate taught by T¹ and T²", "v1", {"gate_supervision": "mix"}, reported="0.52 (T¹: 0.50)", energy=0.52
    ),
    "k60": Member("k = 60", n_neighbors=60, reported="0.55 (k = 100: 0.46)", energy=0.55),
    "k80": Member("k = 80", n_neighbors=80, reported="0.53 (k = 100: 0.46)", energy=0.53),
    "k120": Member("k = 120", n_neighbors=120, reported="–"),
    "ipar2d_scaled": Member("IPA-R(2D), scaled QK-norm", "ipar2d", reported="0.61 ± 0.01"),
    "ipar2d": Member("IPA-R(2D), cosine QK-norm", "ipar2d", COSINE, reported="0.61 ± 0.01", energy=0.61),
    "oracle": Member("oracle: no network", trained=False, reported="0.027 (−0.008 with regularisers)"),
    "random": Member("random embeddings", embedding="random", reported="2.85", energy=2.85),
    "static": Member("static kNN(H), k = 50, no gate", n_neighbors=50, gated=False, reported="0.72", energy=0.72),
}


@dataclass(frozen=True)
class Claim:
    """What was reported of two members: the first does better, or, if ``alike``, as well.

    Attributes
    ----------
    text
        In words.
    better, worse
        The members.
    alike
        They were as good as each other.
    score
        What is compared; more is better for ``"recall30"`` alone.
    n_seeds
        Seeds that it is measured with: more for what three seeds of a short training had left undecided.
    """

    text: str
    better: str
    worse: str
    alike: bool = False
    score: str = "e_geo_gated"
    n_seeds: int = 3


CLAIMS = (
    Claim("One shared block beats blocks of their own (cosine)", "v1", "v2_r3", n_seeds=6),
    Claim("… with QK-norm as written", "v1", "v2_scaled"),
    Claim("Three own blocks beat five", "v2_r3", "v2_r5"),
    Claim("QK-norm with clamped geometry is as good as neither (cosine)", "d7", "v1", alike=True),
    Claim("… with QK-norm as written", "d7_scaled", "v1", alike=True),
    Claim("Unclamped (`monotone`) geometry harms", "d7", "monotone"),
    Claim("Geometry in the last recycle alone helps V2", "v2_last", "v2_r3", n_seeds=6),
    Claim("`rbf` geometry is as good as none", "rbf", "v1", alike=True),
    Claim("`point` geometry is a little worse than none", "v1", "point", n_seeds=6),
    Claim("A pair bias is redundant", "pair", "v1", alike=True),
    Claim("A gate per head is worse than a shared one", "v1", "heads", n_seeds=6),
    Claim("A gate taught by T¹ beats T²", "v1", "t2", n_seeds=6),
    Claim("A gate taught by T¹ beats the mix", "v1", "mix"),
    Claim("100 candidates beat 80", "v1", "k80", n_seeds=6),
    Claim("80 candidates beat 60", "k80", "k60", n_seeds=6),
    Claim("IPA-R(2D) is worse than V1 (cosine)", "v1", "ipar2d", n_seeds=6),
    Claim("… though its attention finds more true neighbours", "ipar2d", "v1", score="recall30", n_seeds=6),
    Claim("IPA-R(2D) as written is worse than V1", "v1", "ipar2d_scaled"),
    Claim("… though its attention finds more true neighbours", "ipar2d_scaled", "v1", score="recall30"),
    Claim("Without a gate on 50 candidates it is worse", "v1", "static"),
    Claim("Random embeddings are far worse", "v1", "random"),
)
QUESTIONS = (
    Claim("V2: the cosine beats QK-norm as written", "v2_r3", "v2_scaled"),
    Claim("D7: the cosine beats QK-norm as written", "d7", "d7_scaled"),
    Claim("IPA-R(2D): the cosine beats QK-norm as written", "ipar2d", "ipar2d_scaled"),
)
"""What was not reported."""


def n_seeds_of(name: str) -> int:
    """Seeds that a member is measured with: the most that a claim on it needs, or one."""
    return max((one.n_seeds for one in CLAIMS if name in (one.better, one.worse)), default=1)
