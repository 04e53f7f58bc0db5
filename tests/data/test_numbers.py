"""Numbers from outside, and files that stay JSON whatever a number became."""

import json
import math

import numpy as np
import pytest

from gdro_comfy.data import files
from gdro_comfy.data.numbers import finite_number
from gdro_comfy.data.scores import read_scores


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2, 2.0), (-0.5, -0.5), (np.float32(0.25), 0.25), (np.int64(3), 3.0),
        (math.nan, None), (math.inf, None), (np.float32("nan"), None), (1e39, None), (10**400, None),
        (True, None), ("1", None), (None, None), ([1], None), (1j, None),
    ],
)  # fmt: skip
def test_only_finite_numbers_are_numbers(value, expected):
    assert finite_number(value) == expected


def test_a_score_file_gives_only_what_is_a_number(tmp_path):
    path = tmp_path / "scores.jsonl"
    values = ["0.5", "null", "NaN", "Infinity", "1e39", "1" + "0" * 400, "true", '"1"']
    lines = [f'{{"prompt": "a", "image": {i}, "value": {v}}}' for i, v in enumerate(values)]
    path.write_text("\n".join([*lines, '{"prompt": "a", "image": 99}']))
    assert [(key[1], row["value"]) for key, row in read_scores(path).items()] == [
        (0, 0.5),
        (1, None),
    ]


def test_files_that_are_written_are_json_for_browsers_too(tmp_path):
    def refuse(constant):
        raise ValueError(constant)

    row = {"loss": math.nan, "parts": [1.0, -math.inf], "deep": {"x": (math.inf,)}, "text": "狐"}
    files.write_json(tmp_path / "a.json", row)
    files.write_lines(tmp_path / "b.jsonl", [row])
    files.append_lines(tmp_path / "b.jsonl", [row])
    expected = {"loss": None, "parts": [1.0, None], "deep": {"x": [None]}, "text": "狐"}
    texts = [(tmp_path / "a.json").read_text(), *(tmp_path / "b.jsonl").read_text().splitlines()]
    rows = [json.loads(text, parse_constant=refuse) for text in texts]
    checksums = [row.pop("checksum", None) for row in rows]
    assert rows == [expected] * 3
    assert checksums[0] is None
    assert checksums[1] == checksums[2] is not None
