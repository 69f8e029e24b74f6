from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.tasks.records import keep, kept, read

RUN = {"task": "a", "seed": 0}


def test_a_result_is_made_once_and_written_whole(tmp_path):
    def fails():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        kept("polish", RUN, fails, tmp_path / "deep")
    assert read("polish", tmp_path / "deep") == []
    assert kept("polish", RUN, lambda: {"x": 1}, tmp_path) == RUN | {"x": 1}
    assert kept("polish", RUN, fails, tmp_path) == RUN | {"x": 1}
    assert kept("polish", RUN, lambda: {"x": 2}, tmp_path, fresh=True) == RUN | {"x": 2}
    assert read("polish", tmp_path) == [RUN | {"x": 2}]
    assert [path.name for path in tmp_path.iterdir()] == ["polish.jsonl"]


def test_lines_are_sorted_and_keep_the_order_of_rows(tmp_path):
    keep("polish", {"task": "b", "seed": 10, "layouts": {"z": 1, "a": 2}}, tmp_path)
    keep("polish", {"task": "b", "seed": 9}, tmp_path)
    keep("polish", {"task": "a", "seed": 11}, tmp_path)
    assert [(run["task"], run["seed"]) for run in read("polish", tmp_path)] == [("a", 11), ("b", 9), ("b", 10)]
    last = (tmp_path / "polish.jsonl").read_text().splitlines()[-1]
    assert last == '{"layouts": {"z": 1, "a": 2}, "seed": 10, "task": "b"}'


def test_another_key_may_identify_a_record(tmp_path):
    for seed in range(2):
        keep("polish", {"task": "a", "seed": seed}, tmp_path, key=("task",))
    assert read("polish", tmp_path) == [{"task": "a", "seed": 1}]


def test_records_that_are_kept_at_the_same_time_are_all_there(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: keep("polish", {"task": "a", "seed": seed}, tmp_path), range(40)))
    assert [run["seed"] for run in read("polish", tmp_path)] == list(range(40))
