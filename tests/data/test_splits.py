from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nequip.data.splits import Split, SplitSizes, fixed_split, random_split, split_by_group, write_parts
from nequip.errors import DataError

FRAMES = np.arange(100)


def sizes_of(split: Split) -> tuple[int, int, int]:
    return len(split.train), len(split.val), len(split.test)


def all_indices(split: Split) -> list[int]:
    return np.concatenate([split.train, split.val, split.test]).tolist()


@pytest.mark.parametrize(
    ("sizes", "counts"),
    [
        (SplitSizes(), (90, 10, 0)),
        (SplitSizes(train=30, val=20), (30, 20, 0)),
        (SplitSizes(val=5, test=0.25), (70, 5, 25)),
        (SplitSizes(train=0.8, val=0.1, test=0.1), (80, 10, 10)),
        (SplitSizes(train=1.0, val=0), (100, 0, 0)),
    ],
)
def test_sizes_are_frames_or_shares(sizes, counts):
    assert sizes_of(random_split(FRAMES, sizes, seed=0)) == counts


def test_shares_that_round_up_to_more_than_there_are_leave_train_smaller():
    assert sizes_of(random_split(np.arange(7), SplitSizes(train=0.5, val=0.5), seed=0)) == (3, 4, 0)


@given(st.integers(0, 1000), st.integers(3, 60))
def test_no_frame_is_in_two_parts_and_none_is_lost(seed, num_frames):
    split = random_split(np.arange(num_frames), SplitSizes(val=1, test=1), seed)
    assert sorted(all_indices(split)) == list(range(num_frames))


def test_the_same_seed_gives_the_same_split():
    first, second = (random_split(FRAMES, SplitSizes(), seed=3) for _ in range(2))
    assert all_indices(first) == all_indices(second)


def test_another_seed_gives_another_split():
    assert (
        random_split(FRAMES, SplitSizes(), seed=0).val.tolist()
        != random_split(FRAMES, SplitSizes(), seed=1).val.tolist()
    )


def test_the_size_of_train_does_not_move_the_validation_frames():
    small = random_split(FRAMES, SplitSizes(train=10), seed=0)
    large = random_split(FRAMES, SplitSizes(), seed=0)
    assert small.val.tolist() == large.val.tolist()
    assert set(small.train) < set(large.train)


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        (SplitSizes(train=95, val=10), r"asks for 105 frames \(95 train, 10 val, 0 test\).*only 100"),
        (SplitSizes(val=100), "leaves no training frame"),
        (SplitSizes(train=0), "leaves no training frame"),
        (SplitSizes(val=-1), "size of val is -1"),
        (SplitSizes(test=1.5), "size of test is 1.5"),
    ],
)
def test_sizes_that_cannot_be_met_are_refused(sizes, sentence):
    with pytest.raises(DataError, match=sentence):
        random_split(FRAMES, sizes, seed=0)


def groups_of(counts: dict[str, int]) -> list[str]:
    return [name for name, count in counts.items() for _ in range(count)]


def test_whole_groups_go_together():
    groups = groups_of(dict.fromkeys("abcdefghij", 10))
    split = split_by_group(FRAMES, groups, SplitSizes(val=0.2, test=10), seed=0)
    assert sizes_of(split) == (70, 20, 10)
    parts = [{groups[index] for index in part} for part in (split.train, split.val, split.test)]
    assert sum(len(part) for part in parts) == 10


def test_groups_of_unequal_size_meet_the_sizes_as_nearly_as_they_can():
    groups = groups_of({"a": 50, "b": 30, "c": 12, "d": 8})
    split = split_by_group(FRAMES, groups, SplitSizes(val=0.1), seed=0)
    assert sizes_of(split) == (92, 8, 0)


def test_no_part_asked_for_stays_empty():
    split = split_by_group(FRAMES, groups_of({"a": 34, "b": 33, "c": 33}), SplitSizes(val=1, test=1), seed=0)
    assert sizes_of(split) == (34, 33, 33)


def test_the_seed_chooses_among_groups_of_one_size():
    groups = groups_of(dict.fromkeys("abcdefghij", 10))
    chosen = {split_by_group(FRAMES, groups, SplitSizes(), seed).val[0] for seed in range(10)}
    assert len(chosen) > 1


def test_groups_beyond_the_training_frames_asked_for_are_left_out():
    groups = groups_of(dict.fromkeys("abcdefghij", 10))
    split = split_by_group(FRAMES, groups, SplitSizes(train=20, val=10), seed=0)
    assert sizes_of(split) == (20, 10, 0)


def test_too_few_groups_are_named():
    with pytest.raises(DataError, match=r"into train and val needs 2 groups.*have 1 \('a'\)"):
        split_by_group(FRAMES, ["a"] * 100, SplitSizes(), seed=0)


@pytest.fixture(params=["json", "npz"])
def indices_file(request, tmp_path):
    def write(**arrays):
        path = tmp_path / f"split.{request.param}"
        if request.param == "json":
            path.write_text(json.dumps(arrays))
        else:
            np.savez(path, **arrays)
        return path

    return write


def test_a_fixed_split_reads_indices(indices_file):
    split = fixed_split(indices_file(train=[5, 3], val=[1]), 10)
    assert (split.train.tolist(), split.val.tolist(), split.test.tolist()) == ([3, 5], [1], [])


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"train": [0, 1], "val": [1]}, "frame 1 is in both train and val"),
        ({"train": [0, 10]}, "train: index 10 lies outside 0 to 9"),
        ({"train": [-1]}, "train: index -1 lies outside"),
        ({"train": [2, 2]}, "train: index 2 is given twice"),
        ({"train": [0.5]}, "indices must be whole numbers"),
        ({"train": [0], "valid": [1]}, r"'valid' \(did you mean 'val'\?\)"),
        ({"val": [1]}, "no 'train'"),
        ({"train": []}, "names no training frame"),
    ],
)
def test_wrong_indices_are_refused(indices_file, arrays, sentence):
    with pytest.raises(DataError, match=sentence):
        fixed_split(indices_file(**arrays), 10)


@pytest.mark.parametrize("content", ["{", "[1, 2]"])
def test_a_file_that_holds_no_split_is_refused(tmp_path, content):
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"split\.json"):
        fixed_split(path, 10)


def test_a_missing_split_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.json cannot be read"):
        fixed_split(tmp_path / "nowhere.json", 10)


def test_shares_of_more_than_all_frames_are_refused():
    with pytest.raises(DataError, match="only 60"):
        SplitSizes(train=0.5, val=0.99).counts(60)


def test_files_of_an_earlier_split_are_neither_kept_beside_nor_written_over(tmp_path):
    (tmp_path / "all.xyz").write_text("1\n\nH 0 0 0\n" * 3)
    parts = {"train": np.array([0, 1]), "val": np.array([], dtype=int), "test": np.array([2])}
    write_parts(tmp_path / "all.xyz", parts, tmp_path)
    before = (tmp_path / "test.xyz").read_text()
    with pytest.raises(DataError, match="exists already"):
        write_parts(tmp_path / "all.xyz", parts | {"train": np.arange(3), "test": parts["val"]}, tmp_path)
    assert (tmp_path / "test.xyz").read_text() == before
