"""Public data: copies come first, downloads are compared with their checksums, and what fails says what to do."""

from __future__ import annotations

import functools
import hashlib
import http.server
import re
import socket
import threading

import anndata as ad
import numpy as np
import pytest

import ipar
from ipar.datasets._fetch import described, downloaded
from ipar.datasets._registry import REGISTRY, Dataset


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A folder with one file, served on this machine, and the requests that came."""
    folder, requests = tmp_path_factory.mktemp("public"), []
    adata = ad.AnnData(np.ones((6, 2), dtype=np.float32))
    adata.obs["Bregma"] = [0.1, 0.1, 0.1, -0.2, -0.2, -0.2]
    adata.write_h5ad(folder / "cells.h5ad")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            requests.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_address[1]}/cells.h5ad", folder / "cells.h5ad", requests
        served.shutdown()


def dataset(url, sha256, slides=None):
    return Dataset("some cells", "a paper", "CC0", "a site", url, sha256, slides)


def test_a_file_is_downloaded_once(server, tmp_path):
    url, path, requests = server
    known = dataset(url, hashlib.sha256(path.read_bytes()).hexdigest())
    first = downloaded("cells", known, tmp_path / "cache", progress=False)
    assert first.read_bytes() == path.read_bytes()
    n = len(requests)
    assert n
    assert downloaded("cells", known, tmp_path / "cache", progress=False) == first
    assert len(requests) == n


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(server, tmp_path):
    with pytest.raises(ValueError, match="does not have its checksum: try again later"):
        downloaded("cells", dataset(server[0], "0" * 64), tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_without_a_connection_the_remedy_is_named(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionError, match=r"cannot be downloaded from .*put a copy, cells.h5ad, into .*IPAR_DATA"):
        downloaded("cells", dataset(f"http://127.0.0.1:{port}/cells.h5ad", "0" * 64), tmp_path, progress=False)
    with pytest.raises(ConnectionError, match="cannot be downloaded"):
        downloaded("cells", dataset(f"http://127.0.0.1:{port}/other", "0" * 64), tmp_path, progress=False)


def test_copies_come_first(server, tmp_path):
    (tmp_path / "merfish_hypothalamus.h5ad").write_bytes(server[1].read_bytes())
    with ipar.settings.override(datadir=tmp_path):
        adata = ipar.datasets.fetch("merfish_hypothalamus")
    assert adata.n_obs == 6
    assert sorted(adata.obs["slide"].cat.categories) == ["-0.2", "0.1"]
    assert adata.uns["source"]["licence"].startswith("CC0")


def test_what_is_known_of_a_copy_is_kept():
    adata = ad.AnnData(np.ones((3, 2), dtype=np.float32), uns={"source": {"licence": "mine"}})
    assert described(adata, dataset(None, None)).uns["source"] == {
        "description": "some cells",
        "reference": "a paper",
        "licence": "mine",
        "source": "a site",
    }


def test_data_in_another_form_and_unknown_names(tmp_path):
    with ipar.settings.override(datadir=tmp_path):
        with pytest.raises(
            FileNotFoundError, match=r"published in another form only \(github.com/.*put mouse_brain_st"
        ):
            ipar.datasets.fetch("mouse_brain_st")
        with pytest.raises(ValueError, match=r"There is no data set 'mouse', found \['merfish_hypothalamus'"):
            ipar.datasets.fetch("mouse")


def test_every_download_has_a_checksum_a_licence_and_a_paper():
    table = ipar.datasets.available()
    assert list(table.index) == list(REGISTRY)
    assert (table[["about", "reference", "licence", "source"]].map(len) >= 4).all(axis=None)
    for one in REGISTRY.values():
        assert (one.url is None) == (one.sha256 is None)
        assert one.url is None or (one.url.startswith("https://") and re.fullmatch("[0-9a-f]{64}", one.sha256))
