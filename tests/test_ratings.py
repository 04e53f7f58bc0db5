"""Ratings by hand: the last of a group counts, and nothing else than ratings is taken."""

import pytest

from gdro_comfy import ratings
from gdro_comfy.errors import InputError


def test_the_last_rating_of_a_group_counts(tmp_path):
    assert ratings.read(tmp_path) == {}
    ratings.write(tmp_path, "a", [5, None])
    ratings.write(tmp_path, "b", [1])
    ratings.write(tmp_path, "a", [4, 2])
    assert ratings.read(tmp_path) == {"a": [4, 2], "b": [1]}


@pytest.mark.parametrize("given", [[0], [6], [True], [2.5], ["5"]])
def test_what_is_no_rating_is_refused(tmp_path, given):
    with pytest.raises(InputError, match="from 1 to 5"):
        ratings.write(tmp_path, "a", given)
    assert ratings.read(tmp_path) == {}


def test_broken_lines_are_left_out(tmp_path):
    ratings.write(tmp_path, "a", [3])
    with open(tmp_path / "ratings.jsonl", "a", encoding="utf-8") as file:
        file.write('{"group": 3}\n[1]\n{"group": "b", "ratings": [9]}\n{"group": "c", "rat')
    ratings.write(tmp_path, "d", [1])
    assert ratings.read(tmp_path) == {"a": [3], "d": [1]}
