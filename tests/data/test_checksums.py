"""A flipped bit anywhere in a file of a run is seen; a file without a checksum is only unknown."""

import json
import random

import pytest
import torch
from PIL import Image

from gdro_comfy.data import checksums, files
from gdro_comfy.data.damage import DamagedFile


def flipped(data, bit):
    copy = bytearray(data)
    copy[bit // 8] ^= 1 << bit % 8
    return bytes(copy)


def bits(data, count=200):
    return random.Random(7).sample(range(8 * len(data)), min(count, 8 * len(data)))


def test_no_bit_of_tensors_can_change_unseen(tmp_path):
    path = tmp_path / "a.safetensors"
    texts = {"structure": '[{"value": 3}]', "other": "x"}
    files.write_tensors(path, {"a": torch.arange(6.0), "b": torch.ones(2, 3)}, texts)
    data = path.read_bytes()
    tensors, kept = files.read_safetensors(path)
    assert kept == texts
    assert checksums.tensors_fit(data) is True
    name = data.index(b"gdro.checksum")
    for bit in [*range(8 * 8), *bits(data)]:
        if name <= bit // 8 < name + len("gdro.checksum"):
            continue  # a checksum of another name is none: the file is unknown
        path.write_bytes(flipped(data, bit))
        with pytest.raises(DamagedFile, match=r"a\.safetensors is damaged"):
            files.read_tensors(path)
    assert torch.equal(tensors["a"], torch.arange(6.0))


def test_no_value_of_a_record_or_line_can_change_unseen(tmp_path):
    path, value = tmp_path / "a.json", {"steps": 8, "name": "ünï", "list": [1, 2.5]}
    files.write_record(path, value)
    data = path.read_bytes()
    assert files.read_record(path) == value
    assert json.loads(data).keys() == {*value, "checksum"}
    for bit in bits(data, 400):
        path.write_bytes(flipped(data, bit))
        try:
            found = files.read_record(path)
        except (OSError, ValueError):
            continue
        assert {key: found.get(key) for key in value} == value

    lines = tmp_path / "b.jsonl"
    rows = [{"prompt": "a", "value": 0.25}, {"prompt": "b", "value": None}, {}]
    files.append_lines(lines, rows)
    assert files.read_lines(lines) == rows
    data = lines.read_bytes()
    for bit in bits(data, 400):
        lines.write_bytes(flipped(data, bit))
        found = [{k: row.get(k) for k in ("prompt", "value")} for row in files.read_lines(lines)]
        wanted = [{k: row.get(k) for k in ("prompt", "value")} for row in rows]
        assert all(row in wanted for row in found)


def test_what_older_versions_wrote_is_unknown_and_read(tmp_path):
    from safetensors.torch import save

    path = tmp_path / "a.safetensors"
    path.write_bytes(save({"a": torch.ones(2)}, {"format": "pt"}))
    assert checksums.tensors_fit(path.read_bytes()) is None
    assert files.read_safetensors(path)[1] == {"format": "pt"}
    (tmp_path / "a.json").write_text('{"steps": 8}')
    assert files.read_record(tmp_path / "a.json") == {"steps": 8}
    (tmp_path / "b.jsonl").write_text('{"a": 1}\n')
    assert files.read_lines(tmp_path / "b.jsonl") == [{"a": 1}]


def test_a_picture_shows_its_own_damage(tmp_path):
    path = tmp_path / "a.png"
    files.write_png(path, Image.effect_noise((40, 30), 60).convert("RGB"))
    data = path.read_bytes()
    assert checksums.png_fits(data)
    assert not any(checksums.png_fits(flipped(data, bit)) for bit in bits(data))
    assert not any(checksums.png_fits(data[:length]) for length in range(0, len(data), 97))


def test_half_a_surrogate_pair_is_written_and_read(tmp_path):
    files.write_record(tmp_path / "a.json", {"text": "\ud83d", "more": "é"})
    assert files.read_record(tmp_path / "a.json") == {"text": "\ud83d", "more": "é"}
    files.append_lines(tmp_path / "b.jsonl", [{"text": "\udc00"}])
    assert files.read_lines(tmp_path / "b.jsonl") == [{"text": "\udc00"}]
