"""Published peer methods, from their PyPI packages, on the benchmark's tasks.

    python -m benchmarks.peers.run --data ../shared/data --peers tangram moscot --environments ../peer-environments

Every peer has an environment of its own, made from ``<peer>.txt`` where it is missing, and a script ``place_<peer>.py``
that runs there, without ipar. A script reads the training slides and the query's expression from a temporary file and
knows nothing else; results stand beside those of ``benchmarks.run``, whose pages show them (``--report-only``).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import venv
from functools import lru_cache, partial
from pathlib import Path

import anndata as ad
import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from benchmarks.methods import arrays, frames
from benchmarks.methods.labels import PEERS
from benchmarks.peers.exchange import Exchange
from benchmarks.tasks import tasks
from benchmarks.tasks.options import parser_of
from benchmarks.tasks.records import Record, kept
from ipar import metrics
from ipar.baselines.inputs import principal_components

HERE = Path(__file__).resolve().parent
_N_GENES = 2000
_N_COMPONENTS = 50
_FRAME_SEED = 0


def exchanged(train: ad.AnnData, query: ad.AnnData) -> Exchange:
    """What peers get: the 2,000 genes that vary most within training slides; training slides in one frame.

    Sections share no frame and some are mirrored. Peers that regress coordinates would average over frames, so they
    get the one that the common-frame control uses; to peers that map onto one slide, a frame makes no difference.
    """
    slides = train.obs["slide"].astype(str).to_numpy().astype(np.str_)
    x, unseen = arrays.dense(train), arrays.dense(query)
    data = arrays.reference_of(train, query)
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
    found = served(peer, given, seed, python, threads)
    return found["coords"], {name: float(found[name]) for name in ("seconds", "peak_gib")}


def served(peer: str, given: Exchange, seed: int, python: Path, threads: int) -> dict[str, NDArray[np.floating]]:
    """All that the peer's script gives back: coordinates, time, peak memory, and the mapping where there is one."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "given.npz", Path(folder) / "placed.npz"
        given.write(source)
        command = [str(part) for part in (python, HERE / f"place_{peer}.py", source, target, seed)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=_variables(threads), cwd=folder)
        if done.returncode:
            msg = f"{peer}, seed {seed}, failed:\n{done.stderr[-3000:]}"
            raise RuntimeError(msg)
        with np.load(target) as stored:
            return {name: stored[name] for name in stored.files}


def _variables(threads: int) -> dict[str, str]:
    """Environment variables of a peer's process: its own packages, so many threads."""
    kept_ones = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
    xla = f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()} intra_op_parallelism_threads={threads}"
    return kept_ones | limits | {"XLA_FLAGS": xla, "JAX_PLATFORMS": "cpu", "TQDM_DISABLE": "1"}


def run_one(task: str, peer: str, seed: int, options: argparse.Namespace) -> Record:
    """Run one peer on one task and score it."""
    given, truth = prepared(task, options.data)
    coords, cost = placed(peer, given, seed, environment(peer, options.environments), options.threads)
    scores = metrics.evaluate(truth, coords, random_state=0)
    return {"scores": scores, **cost, "threads": options.threads, "jobs": 1}


def main() -> None:
    """Run, or continue."""
    parser = parser_of(__doc__, page=False)
    parser.add_argument("--tasks", nargs="+", default=list(tasks.TASKS), choices=list(tasks.TASKS))
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--threads", type=int, default=1, help="of one run")
    parser.add_argument("--environments", type=Path, default=Path("../peer-environments"), help="folder of them")
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
