from __future__ import annotations

import numpy as np
import pytest

from benchmarks.tasks import embedded, tasks
from ipar.training import EncoderRecipe, EncoderTraining, SetEncoderTraining

HASTY = EncoderRecipe(
    inputs="pca",
    n_pcs=8,
    n_output=16,
    pca_hidden=(16,),
    pca_training=EncoderTraining(n_steps=20, batch_size=64),
    set_encoder_training=SetEncoderTraining(n_steps=1, batch_size=2, size=(20, 30)),
)


@pytest.fixture(scope="module")
def found(slides):
    return embedded.embed(slides, 0, recipe=HASTY)


def test_shapes_and_rows(slides, found):
    assert [h.shape for h in found.train] == [(80, 16)] * 3
    assert [x.shape for x in found.coords] == [(80, 2)] * 3
    assert [len(x) for x in found.across] == [80] * 3
    assert found.test.shape == (80, 16)
    np.testing.assert_array_equal(found.truth, slides.truth.astype(np.float32))


def test_coordinates_of_the_test_slide_reach_nothing_but_the_scores(slides, found):
    elsewhere = tasks.Slides(slides.train, slides.query, slides.truth[::-1] * 3 + 7)
    other = embedded.embed(elsewhere, 0, recipe=HASTY)
    assert np.array_equal(other.test, found.test)
    assert all(np.array_equal(a, b) for a, b in zip(other.train, found.train, strict=True))
    assert not np.array_equal(other.truth, found.truth)


def test_coordinates_of_a_training_slide_do_not_reach_its_own_embedding_but_by_rotation(slides, found):
    # its embedding is another encoder's: moved coordinates turn the space, distances within the slide stay
    moved = slides.train.copy()
    own = (moved.obs["slide"] == "MOB1").to_numpy()
    moved.obsm["spatial"][own] = moved.obsm["spatial"][own][::-1]
    other = embedded.embed(tasks.Slides(moved, slides.query, slides.truth), 0, recipe=HASTY)

    def shape(h):
        halves = np.split(h, 2, axis=1)
        return [np.linalg.norm(x[:, None] - x[None], axis=-1) / np.linalg.norm(x - x.mean(0)) for x in halves]

    for a, b in zip(shape(other.train[0]), shape(found.train[0]), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)
    assert not np.allclose(shape(other.train[1])[0], shape(found.train[1])[0], atol=2e-3)


def test_the_cache_gives_what_was_made(slides, found, tmp_path, monkeypatch):
    made = []

    def embed(*args, **options):
        made.append(args)
        return found

    monkeypatch.setattr(embedded, "embed", embed)
    monkeypatch.setattr(tasks, "load", lambda *_: slides)
    for _ in range(2):
        again = embedded.embedded("ob", 3, tmp_path, tmp_path / "cache")
        for name in ("train", "coords", "across"):
            for a, b in zip(getattr(again, name), getattr(found, name), strict=True):
                assert np.array_equal(a, b)
        assert np.array_equal(again.test, found.test)
        assert np.array_equal(again.truth, found.truth)
    assert len(made) == 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["fast"]
