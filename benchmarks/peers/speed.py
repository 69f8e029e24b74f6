"""Time and memory that published peers take to place more and more cells, each run in a process of its own.

    python -m benchmarks.peers.speed --data ../shared/data --environments ../peer-environments

Peers map onto a training section of the task ``brain2``. The cells to place are spots of its query section, drawn as
often as needed. What was measured is kept as a line of ``peer_speed.jsonl``, and not measured again without
``--fresh``. A run that crashes, or takes too much time or memory, is kept with the reason and no figures.
"""

from __future__ import annotations

import argparse
import re
import resource
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from benchmarks.methods.labels import PEERS
from benchmarks.peers.exchange import Floats
from benchmarks.peers.run import environment, placed, prepared
from benchmarks.tasks.records import RESULTS, Record, kept, read

PAGE = "peer_speed"
TIMED = ("tangram", "moscot", "novosparc")
N_CELLS = (1_000, 5_000, 20_000)

_TASK = "brain2"
_SEED = 0
_JITTER = 0.01
_MOST_GIB = 12
_OUT_OF_TIME, _KILLED = 124, 137  # as `timeout` and the shell report them
_OUT_OF_MEMORY = re.compile(r"MemoryError|RESOURCE_EXHAUSTED|bad_alloc|(allocate|not enough|out of) memory", re.I)
_LIMITED = """#!/bin/sh
ulimit -d {kib}
timeout -k 10 {seconds} {python} "$@"
status=$?
test $status -eq 0 || echo "exit status $status" >&2
exit $status
"""


def drawn(query: Floats, n_cells: int) -> Floats:
    """So many cells of a section, drawn with replacement where it has fewer; no two are equal.

    Values are jittered by a hundredth of themselves, so zeros stay zeros.
    """
    rng = np.random.default_rng(_SEED)
    rows = rng.choice(len(query), n_cells, replace=n_cells > len(query))
    jitter = 1 + _JITTER * rng.standard_normal((n_cells, query.shape[1]), dtype=np.float32)
    cells: Floats = query[rows] * jitter
    return cells


@contextmanager
def limited(python: Path, most_seconds: int) -> Iterator[Path]:
    """A command that runs a Python within limits of time and memory, and reports an exit status other than 0.

    The limit is one of data: that of the address space would count what jax reserves and never uses. Linux counts the
    memory of the starting process as a peak of the started one, and the shell in between is small.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = Path(folder) / "python"
        shown = shlex.quote(str(python))
        command.write_text(_LIMITED.format(kib=_MOST_GIB * 2**20, seconds=most_seconds, python=shown))
        command.chmod(0o755)
        yield command


def measured(peer: str, n_cells: int, options: argparse.Namespace) -> Record:
    """Time and peak memory of a peer that places so many cells, or why it did not.

    Seconds are those of placing alone; CPU seconds are those of its whole process, imports included.
    """
    given, _ = prepared(_TASK, options.data)
    given = replace(given, query=drawn(given.query, n_cells))
    threads = {"threads": options.threads}
    try:
        python = environment(peer, options.environments)
    except (OSError, subprocess.CalledProcessError):
        return threads | {"failed": "its environment could not be made"}
    before = _cpu_seconds()
    try:
        with limited(python, options.most_seconds) as command:
            coords, cost = placed(peer, given, _SEED, command, options.threads)
    except (OSError, RuntimeError) as error:
        return threads | {"failed": _reason(str(error), options.most_seconds, _cpu_seconds() - before)}
    if not np.isfinite(coords).all():
        return threads | {"failed": "coordinates that are not finite"}
    return threads | cost | {"cpu_seconds": round(_cpu_seconds() - before, 2)}


def _cpu_seconds() -> float:
    """CPU seconds of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _reason(error: str, most_seconds: int, cpu_seconds: float) -> str:
    """Why a run failed, in a few words; one that was stopped may have had a part of a core only."""
    found = re.search(r"exit status (\d+)\s*$", error)
    status = int(found[1]) if found else None
    if status == _OUT_OF_TIME:
        return f"stopped after {most_seconds:,} s, {cpu_seconds:,.0f} s of them CPU time"
    if status == _KILLED or _OUT_OF_MEMORY.search(error):
        return f"out of {_MOST_GIB} GiB"
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    said = lines[:-1] if found else lines
    return said[-1][:100] if said[1:] else lines[-1]


def table(records: Sequence[Record]) -> str:
    """A row per peer and a column per number of cells: CPU seconds and peak memory, or why there are none."""
    if not records:
        return "Not measured yet."
    found = {(record["peer"], record["n_cells"]): _shown(record) for record in records}
    counts = sorted({n_cells for _, n_cells in found})
    peers = [peer for peer in PEERS if any(peer == name for name, _ in found)]
    rows = [["peer", *(f"{n_cells:,} cells" for n_cells in counts)], ["---"] * (1 + len(counts))]
    for peer in peers:
        rows.append([PEERS[peer].removesuffix(" (peer)"), *(found.get((peer, n_cells), "") for n_cells in counts)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _shown(record: Record) -> str:
    """A cell of the table; what a failed run said must not end it."""
    if "failed" in record:
        return str(record["failed"]).replace("|", "\\|")
    return f"{record['cpu_seconds']:,.0f} s ({record['peak_gib']:.1f} GiB)"


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the slides")
    made.add_argument("--environments", type=Path, default=Path("../peer-environments"), help="folder of them")
    made.add_argument("--peers", nargs="+", default=list(TIMED), choices=list(PEERS))
    made.add_argument("--cells", nargs="+", type=int, default=list(N_CELLS), help="numbers of cells to place")
    made.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON lines")
    made.add_argument("--fresh", action="store_true", help="measure again what has been measured")
    made.add_argument("--threads", type=int, default=1, help="of one run")
    made.add_argument("--most-seconds", type=int, default=1200, help="after which a run is stopped")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is not yet measured, and print the table."""
    options = parser().parse_args(arguments)
    options.environments = options.environments.resolve()
    for n_cells, peer in tqdm(list(product(options.cells, options.peers)), unit="run"):
        identity = {"peer": peer, "n_cells": n_cells}
        kept(PAGE, identity, partial(measured, peer, n_cells, options), options.out, fresh=options.fresh)
    print(table(read(PAGE, options.out)))


if __name__ == "__main__":
    main()
