"""Options that the commands share, and where their pages go."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.tasks.records import RESULTS


def parser_of(doc: str | None, *, seeds: Sequence[int] = (0, 1, 2), page: bool = True) -> argparse.ArgumentParser:
    """A parser with the options that commands share: what is measured and, of most, which page is written."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the slides")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(seeds))
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON lines")
    parser.add_argument("--cache", type=Path, default=RESULTS / "cache", help="folder of embeddings and models")
    parser.add_argument("--fresh", action="store_true", help="measure again what has been measured")
    if page:
        parser.add_argument("--markdown", type=Path, default=None, help="page to write; printed, if not given")
        parser.add_argument("--report-only", action="store_true", help="write the page without measuring anything")
    return parser


def command_of(module: str) -> str:
    """The command that makes a page, as it was called."""
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


def write_page(text: str, path: Path | None) -> None:
    """Write a page, or print it."""
    if path is None:
        print(text)
    else:
        path.write_text(text, encoding="utf-8")


def with_part(page: str, start: str, end: str, text: str) -> str:
    """A page whose part between two lines is another.

    Raises
    ------
    ValueError
        If the page has no such part.
    """
    if start not in page or end not in page:
        msg = f"The page has no part between {start} and {end}: add these lines."
        raise ValueError(msg)
    before, rest = page.split(start, 1)
    return f"{before}{start}\n\n{text}\n\n{end}{rest.split(end, 1)[1]}"
