"""Published peer methods, from their PyPI packages, on the benchmark's tasks.

    python benchmarks/peers/run.py --data ../shared/data --peers tangram moscot --environments ../peer-environments

Every peer has an environment of its own, made from ``<peer>.txt`` where it is missing, and a script ``place_<peer>.py``
that runs there, without ipar. A script reads the training slides and the query's expression from a temporary file and
knows nothing else; results stand beside those of ``benchmarks/run.py``, whose page shows them (``--report-only``).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the benchmark is a folder of scripts, not a package
sys.path.append(str(Path(__file__).resolve().parent))

import frames
import tasks
from exchange import Exchange
from ipar import metrics
from ipar.baselines._checks import as_expression, as_reference
from ipar.baselines._features import principal_components
from records import RESULTS, kept

HERE = Path(__file__).resolve().parent
PEERS = ["celery", "tangram", "novosparc", "moscot", "stem"]
_N_GENES = 2000
_N_COMPONENTS = 50
_FRAME_SEED = 0


def exchanged(train: ad.AnnData, query: ad.AnnData) -> Exchange:
    """What peers get: the 2,000 genes that vary most within training slides; training slides in one frame.

    Sections share no frame and some are mirrored. Peers that regress coordinates would average over frames, so they
    get the one that the common-frame control uses; to peers that map onto one slide, a frame makes no difference.
    """
    slides = train.obs["slide"].astype(str).to_numpy().astype(np.str_)
    x, unseen = as_expression(train.X, "train"), as_expression(query.X, "query")
    data = as_reference(x, train.obsm["spatial"], slides, unseen)
    components, _ = principal_components(data.x, data.query, _N_COMPONENTS, seed=_FRAME_SEED, power=0.0)
    coords = frames.common_frame(components, data.coords, data.rows)
    spread = np.mean([x[slides == name].var(axis=0) for name in np.unique(slides)], axis=0)
    genes = np.sort(np.argsort(-spread, kind="stable")[:_N_GENES])
    return Exchange(x=x[:, genes], coords=coords, slides=slides, query=unseen[:, genes])


@lru_cache(maxsize=1)  # peers of a task run one after another
def prepared(task: str, folder: Path) -> tuple[Exchange, NDArray[np.float64]]:
    """What the peers of a task get, and the truth, which they do not get."""
    slides = tasks.load(tasks.TASKS[task], folder)
    return exchanged(slides.train, slides.query), slides.truth


def environment(peer: str, folder: Path) -> Path:
    """The Python of a peer's environment, which is made where it is missing or its requirements have changed."""
    wanted, home = HERE / f"{peer}.txt", folder / peer
    python, installed = home / "bin" / "python", home / "installed.txt"
    if not installed.is_file() or installed.read_text() != wanted.read_text():
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", wanted], check=True)
        installed.write_text(wanted.read_text())
    return python


def placed(
    peer: str, given: Exchange, seed: int, python: Path, threads: int
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Coordinates that the peer's script gives the query; its time and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "given.npz", Path(folder) / "placed.npz"
        given.write(source)
        command = [str(part) for part in (python, HERE / f"place_{peer}.py", source, target, seed)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=_variables(threads), cwd=folder)
        if done.returncode:
            msg = f"{peer}, seed {seed}, failed:\n{done.stderr[-3000:]}"
            raise RuntimeError(msg)
        with np.load(target) as stored:
            return stored["coords"], {name: float(stored[name]) for name in ("seconds", "peak_gib")}


def _variables(threads: int) -> dict[str, str]:
    """Environment variables of a peer's process: its own packages, so many threads."""
    kept_ones = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
    xla = f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()} intra_op_parallelism_threads={threads}"
    return kept_ones | limits | {"XLA_FLAGS": xla, "JAX_PLATFORMS": "cpu", "TQDM_DISABLE": "1"}


def run_one(task: str, peer: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run one peer on one task and score it."""
    given, truth = prepared(task, options.data)
    coords, cost = placed(peer, given, seed, environment(peer, options.environments), options.threads)
    scores = metrics.evaluate(truth, coords, random_state=0)
    return {"scores": scores, **cost, "threads": options.threads, "jobs": 1}


def main() -> None:
    """Run, or continue."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--tasks", nargs="+", default=list(tasks.TASKS), choices=list(tasks.TASKS))
    parser.add_argument("--peers", nargs="+", default=PEERS, choices=PEERS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1, help="of one run")
    parser.add_argument("--environments", type=Path, default=Path("../peer-environments"), help="folder of them")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON lines")
    parser.add_argument("--fresh", action="store_true", help="measure again what has been measured")
    options = parser.parse_args()
    options.environments = options.environments.resolve()
    for seed in options.seeds:
        for task in options.tasks:
            for peer in tqdm(options.peers, unit="peer", desc=f"{task}, seed {seed}"):
                identity = {"task": task, "method": peer, "seed": seed}
                make = partial(run_one, task, peer, seed, options)
                kept("benchmarks", identity, make, options.out, fresh=options.fresh)


if __name__ == "__main__":
    main()
