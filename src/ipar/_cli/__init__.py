"""The command line: ``ipar demo``, ``ipar fit``, ``ipar predict``, ``ipar evaluate``."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from ipar import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. The exit status is 2 after a user error."""
    parser = _parser()
    _complete(parser)
    options = parser.parse_args(arguments)
    try:
        with _own_process():
            options.run(options)
    except (ImportError, OSError, KeyError, TypeError, ValueError) as error:
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"ipar {options.command}: {message}{_in_python(str(message))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"ipar {options.command}: interrupted; nothing was written.", file=sys.stderr)
        return 130
    return 0


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks how a line goes on, if the optional argcomplete is there."""
    if "_ARGCOMPLETE" in os.environ and find_spec("argcomplete") is not None:
        import argcomplete

        argcomplete.autocomplete(parser)


@contextmanager
def _own_process() -> Iterator[None]:
    """The settings of a command; afterwards, for who calls :func:`main` in a process of theirs, they are as before."""
    environment, shown = dict(os.environ), warnings.showwarning
    # both save memory, and must be set before torch is imported: by large pages, and by keeping kernels for fewer shapes
    for name, value in (("THP_MEM_ALLOC_ENABLE", "1"), ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")):
        os.environ.setdefault(name, value)
    from ipar._preferences import settings

    warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        with settings.override(verbosity=settings.verbosity if "IPAR_VERBOSITY" in os.environ else 2):
            yield
    finally:
        warnings.showwarning = shown
        for name in set(os.environ) - set(environment):
            del os.environ[name]


def _in_python(message: str) -> str:
    """Where a remedy is to change an object, how the object of a file is changed."""
    if "adata." not in message or "adata.write" in message:
        return ""
    return " To change the file, in Python: adata = anndata.read_h5ad(path) first, and adata.write_h5ad(path) last."


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    if category.__module__.startswith("ipar") or issubclass(category, UserWarning):
        print(f"warning: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ipar", description="Predict where cells lie in a tissue from their expression."
    )
    parser.add_argument("--version", action="version", version=f"ipar {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_demo(commands)
    _add_fit(commands)
    _add_predict(commands)
    _add_evaluate(commands)
    return parser


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser("demo", help="simulate a tissue, train, predict, compare with controls, and plot")
    demo.add_argument(
        "--tissue",
        choices=["layers", "lobules"],
        default="layers",
        help="tissue to simulate: layers can be localised, lobules cannot (default: layers)",
    )
    demo.add_argument(
        "-o", "--output", default="ipar-demo", help="output directory for plots and data (default: ipar-demo)"
    )
    demo.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    demo.add_argument("--quiet", action="store_true", help="hide progress bars")
    demo.set_defaults(run=_lazy("_demo", "run_demo"))


def _add_fit(commands: Any) -> None:
    fit = commands.add_parser("fit", help="train on slides with coordinates")
    fit.add_argument("slides", help="h5ad file or zarr store with all training slides")
    fit.add_argument("--model", required=True, help="output directory for the model")
    fit.add_argument(
        "--library-key",
        default=None,
        help="obs column with the slide of each cell (default: slide, if there is one; else all cells are one section)",
    )
    fit.add_argument("--spatial-key", default="spatial", help="obsm key of the coordinates (default: spatial)")
    fit.add_argument("--n-neighbors", type=int, default=None, help="candidates per cell (default: 100)")
    fit.add_argument(
        "--inputs",
        choices=["pca", "genes", "both"],
        default=None,
        help="input of the encoder (default: the best on held-out slides)",
    )
    fit.add_argument(
        "--config", choices=["v1", "v2", "d7", "ipar2d"], default="v1", help="network configuration (default: v1)"
    )
    fit.add_argument(
        "--quality",
        choices=["fast", "default", "best"],
        default="default",
        help="how much time to take; best also trains the flow (default: default)",
    )
    fit.add_argument(
        "--flow",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="train the flow, or not (default: with --quality best)",
    )
    fit.add_argument(
        "--force", action="store_true", help="take the full time for a tissue that cannot be localised, too"
    )
    _add_common(fit)
    fit.set_defaults(run=_lazy("_files", "run_fit"))


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser("predict", help="predict coordinates of cells")
    predict.add_argument("cells", help="h5ad file or zarr store with the cells to place")
    predict.add_argument("--model", required=True, help="directory of the model")
    predict.add_argument(
        "-o", "--output", required=True, help="file to write, .h5ad or .zarr, or with --table-key the store itself"
    )
    predict.add_argument(
        "--table-key", default=None, help="table with the cells, where these are in a SpatialData store (default: none)"
    )
    predict.add_argument(
        "--points-key",
        default="ipar",
        help="name of the points element that is added to a SpatialData store that results are written to (default: ipar)",
    )
    predict.add_argument(
        "--library-key", default=None, help="obs column with the slide of each cell (default: one slide)"
    )
    predict.add_argument(
        "--reference",
        default=None,
        help="training slide in whose frame the cells are also placed (a model of one section calls it section)",
    )
    predict.add_argument(
        "--transport",
        type=float,
        default=0.0,
        help="how far cells are moved onto places of the reference, from 0 to 1 (default: 0)",
    )
    predict.add_argument(
        "--n-rounds", type=int, default=None, help="number of consensus rounds for large samples (default: 2)"
    )
    predict.add_argument("--no-sharpen", action="store_true", help="do not sharpen the layout")
    predict.add_argument("--no-graph", action="store_true", help="do not write the candidate graph, 2 kB per cell")
    _add_common(predict)
    predict.set_defaults(run=_lazy("_files", "run_predict"))


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser("evaluate", help="score predicted coordinates against true ones")
    evaluate.add_argument("cells", help="h5ad file or zarr store with true and predicted coordinates")
    evaluate.add_argument(
        "--library-key", default=None, help="obs column with the slide of each cell (default: one slide)"
    )
    evaluate.add_argument(
        "--spatial-key", default="spatial", help="obsm key of the true coordinates (default: spatial)"
    )
    evaluate.add_argument("--use-rep", default="X_ipar", help="obsm key of the predicted coordinates (default: X_ipar)")
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of a table")
    evaluate.set_defaults(run=_lazy("_files", "run_evaluate"))


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--layer", default=None, help="layer with log-normalised expression (default: X)")
    command.add_argument("--gene-key", default=None, help="var column with the names of genes (default: var_names)")
    command.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    command.add_argument("--device", default="auto", help="torch device (default: CUDA if available, else CPU)")
    command.add_argument("--quiet", action="store_true", help="hide progress bars")


def _lazy(module: str, function: str) -> Any:
    def run(options: argparse.Namespace) -> None:
        from importlib import import_module

        getattr(import_module(f"ipar._cli.{module}"), function)(options)

    return run
