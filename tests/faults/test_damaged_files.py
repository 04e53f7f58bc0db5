"""One file of a finished run is damaged or gone: it is made anew, or named with the way out."""

import logging
import shutil
import time

import pytest
import torch
from PIL import Image
from safetensors.torch import load as load_tensors
from small_reward import RednessReward
from small_training import OBJECTIVE, assert_same_lora, config, scored

from gdro_comfy.data import verify as verifying
from gdro_comfy.data.damage import DamagedFile
from gdro_comfy.data.prompts import from_text
from gdro_comfy.data.run_lock import writing
from gdro_comfy.errors import InputError
from gdro_comfy.evaluation.evaluate import evaluate
from gdro_comfy.evaluation.result import EvaluationConfig
from gdro_comfy.headless import cli
from gdro_comfy.importing.import_groups import ImportConfig, import_groups
from gdro_comfy.importing.sources import from_images
from gdro_comfy.training.train import train
from gdro_comfy.training.validation import Validation

HELDOUT = from_text("one red star\ntwo red squares")


def chain(host, model):
    rollout = scored(host, model)
    lora = train(host, model, rollout, OBJECTIVE, config())
    result = evaluate(host, model, lora, HELDOUT, RednessReward(), EvaluationConfig(1, 2))
    return rollout, lora, result


@pytest.fixture(scope="module")
def finished(bundled_model, tmp_path_factory):
    from recording_host import RecordingHost

    host = RecordingHost(tmp_path_factory.mktemp("finished"))
    return host, chain(host, bundled_model)


@pytest.fixture
def copy(finished, host):
    """The finished run in the output folder of ``host``; returns its folder."""
    shutil.copytree(finished[0].output_dir, host.output_dir)
    return next(host.output_dir.glob("gdro/trial-*"))


def gone(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def halved(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


DAMAGES = (gone, empty, halved, flipped)
REMADE = (
    "run.json", "prompts/*/prompt.json", "prompts/*/conditioning.safetensors",
    "prompts/*/latents.safetensors", "prompts/*/002.png", "train/*/done.json",
    "train/*/evaluations/*/report.html", "train/*/evaluations/*/comparison.png",
    "train/*/evaluations/*/result.json", "scores/*.jsonl",
)  # fmt: skip


@pytest.mark.parametrize("pattern", REMADE)
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_can_be_is_made_anew(finished, copy, host, bundled_model, pattern, damage):
    path = next(copy.glob(pattern))
    before = path.read_bytes()
    damage(path)
    lora_dir = host.lora_dir
    report = verifying.verify(copy, lora_dir)
    # These make a folder a run, a training finished, an evaluation finished; a score file without its
    # last lines is one that was not finished.
    unfinished = damage is gone and path.name in ("run.json", "done.json", "result.json")
    if not unfinished and not (path.suffix == ".jsonl" and damage is not flipped):
        assert [finding.path for finding in report.findings] == [path], report.text(copy)
    with writing(copy):
        verifying.set_aside(report)
    _, lora, _ = chain(host, bundled_model)
    assert_same_lora(lora, finished[1][1])
    assert path.is_file()
    assert not verifying.verify(copy, lora_dir).findings
    if path.suffix not in (".png", ".jsonl"):
        assert len(path.read_bytes()) == len(before)
    if path.name == "conditioning.safetensors":
        # Encoded together with the same prompts as before, it has the same last bits.
        old, new = load_tensors(before), load_tensors(path.read_bytes())
        assert all(torch.equal(old[name], new[name]) for name in old)
    if path.name == "002.png":
        with Image.open(path) as image:
            assert image.size == finished[1][0].groups()[0].image(2).size


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_finished_lora_is_written_again_from_the_checkpoint(
    finished, copy, host, bundled_model, damage
):
    path = next(host.lora_dir.glob("gdro/*.safetensors"))
    damage(path)
    assert [f.path for f in verifying.verify(copy, host.lora_dir).findings] == [path]
    _, lora, _ = chain(host, bundled_model)
    assert_same_lora(lora, finished[1][1])


def test_a_finished_lora_without_a_checkpoint_is_named_with_the_way_out(copy, host, bundled_model):
    path = next(host.lora_dir.glob("gdro/*.safetensors"))
    next(copy.glob("train/*/checkpoint.safetensors")).unlink()
    flipped(path)
    with pytest.raises(DamagedFile, match="copy of it in its place") as caught:
        chain(host, bundled_model)
    assert str(path) in caught.value.found
    path.unlink()


@pytest.mark.parametrize("damage", [empty, halved, flipped])
def test_a_damaged_checkpoint_is_named_and_nothing_is_changed(copy, host, bundled_model, damage):
    rollout = scored(host, bundled_model)
    path = next(copy.glob("train/*/checkpoint.safetensors"))
    history = path.with_name("history.jsonl").read_bytes()
    damage(path)
    path.with_name("done.json").unlink()
    assert path in [finding.path for finding in verifying.verify(copy).findings]
    with pytest.raises(InputError, match="delete it: the training then starts again") as caught:
        train(host, bundled_model, rollout, OBJECTIVE, config())
    assert str(path) in caught.value.found
    assert path.with_name("history.jsonl").read_bytes() == history
    path.unlink()
    train(host, bundled_model, rollout, OBJECTIVE, config())


def test_training_meets_damage_that_only_reading_shows(finished, copy, host, bundled_model):
    """A flipped bit keeps the size, so opening the run does not see it."""
    for name in ("conditioning", "latents"):
        flipped(next(copy.glob(f"prompts/*/{name}.safetensors")))
    next(copy.glob("train/*/done.json")).unlink()
    next(copy.glob("train/*/checkpoint.safetensors")).unlink()
    rollout, _, _ = chain(host, bundled_model)
    for one, other in zip(rollout.groups(), finished[1][0].groups(), strict=True):
        # Images that are sampled together with others differ in the last bits.
        assert torch.allclose(one.latents().float(), other.latents().float(), atol=0.02)
    assert not verifying.verify(copy, host.lora_dir).findings


def test_scoring_meets_a_damaged_picture_and_the_next_run_has_it(copy, host, bundled_model):
    path = next(copy.glob("prompts/*/001.png"))
    data = bytearray(path.read_bytes())
    data[-40] ^= 1  # in the last part of the image
    path.write_bytes(data)
    next(copy.glob("scores/*.jsonl")).unlink()
    with pytest.raises(DamagedFile, match="Run the workflow again"):
        scored(host, bundled_model)
    assert not path.is_file()
    scored(host, bundled_model)
    assert path.is_file()


def test_a_lost_history_of_a_finished_training_is_named(copy, host, bundled_model, caplog):
    path = next(copy.glob("train/*/history.jsonl"))
    path.unlink()
    assert [finding.path for finding in verifying.verify(copy, host.lora_dir).findings] == [path]
    with caplog.at_level(logging.WARNING):
        chain(host, bundled_model)
    assert f"{path} is gone: this training has no curve" in caplog.text


def test_lost_best_weights_are_named(bundled_model, host, caplog):
    rollout = scored(host, bundled_model)
    validation = Validation(HELDOUT, RednessReward(), every=3, images_per_prompt=1)
    settings = {"config": config(), "reward": RednessReward(), "validation": validation}
    lora = train(host, bundled_model, rollout, OBJECTIVE, **settings)
    best = lora.training.validation / "best.safetensors"
    best.unlink()
    lora.path.unlink()
    with caplog.at_level(logging.WARNING):
        train(host, bundled_model, rollout, OBJECTIVE, **settings)
        assert f"{best} is gone: the LoRA is that of the last step" in caplog.text
        lora.path.unlink()
        lora.training.history.unlink()
        train(host, bundled_model, rollout, OBJECTIVE, **settings)
    assert f"{lora.training.history} is gone: the curve begins at step 7" in caplog.text


def test_a_damaged_picture_is_made_anew_whoever_met_it(copy, host, bundled_model):
    rollout = scored(host, bundled_model)
    path = rollout.groups()[1].image_path(2)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))  # of the same size
    with pytest.raises(DamagedFile, match="made anew"):
        rollout.groups()[1].image(2)
    scored(host, bundled_model)
    assert rollout.groups()[1].image(2).size == (64, 64)


def test_a_flipped_score_is_scored_again(finished, copy, host, bundled_model, caplog):
    path = next(copy.glob("scores/*.jsonl"))
    lines = path.read_bytes().split(b"\n")
    lines[3] = lines[3].replace(b'"value": ', b'"value": 1')
    path.write_bytes(b"\n".join(lines))
    findings = verifying.verify(copy).findings
    assert [finding.found for finding in findings] == ["a line is damaged, the first is line 4"]
    with caplog.at_level(logging.WARNING):
        rollout = scored(host, bundled_model)
    assert "1 lines are damaged, the first is line 4" in caplog.text
    assert (rollout.scores() == finished[1][0].scores()).all()


def test_imported_pictures_are_restored_from_their_source(host, bundled_model):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 64, 64, 3, generator=generator)
    source = from_images([images], ["a red star"])
    group = import_groups(host, bundled_model, source, ImportConfig(steps=1)).rollout.groups()[0]
    before = [group.image_path(index).read_bytes() for index in range(3)]
    latents = group.latents()
    halved(group.image_path(1))
    halved(group.conditioning_path)
    again = import_groups(host, bundled_model, source, ImportConfig(steps=1)).rollout.groups()[0]
    assert [again.image_path(index).read_bytes() for index in range(3)] == before
    assert again.is_encoded()
    flipped(group.folder / "latents.safetensors")
    halved(group.image_path(2))
    again = import_groups(host, bundled_model, source, ImportConfig(steps=1)).rollout.groups()[0]
    assert torch.equal(again.latents(), latents)
    assert [again.image_path(index).read_bytes() for index in range(3)] == before


def test_a_run_of_an_older_version_is_unknown_and_goes_on(finished, copy, host, bundled_model):
    from safetensors.torch import load_file, save_file

    from gdro_comfy.data import checksums

    for path in copy.rglob("*.safetensors"):
        save_file(load_file(path), path)
    for path in (*copy.rglob("*.json"), *copy.rglob("*.jsonl")):
        end = b"\n" if path.suffix == ".jsonl" else b""
        lines = path.read_bytes().split(b"\n") if end else [path.read_bytes()]
        path.write_bytes(b"\n".join(checksums.unseal_json(line)[0] for line in lines))
    report = verifying.verify(copy, host.lora_dir)
    assert not report.findings
    assert report.unknown > 10
    next(copy.glob("train/*/done.json")).unlink()
    _, lora, _ = chain(host, bundled_model)
    assert_same_lora(lora, finished[1][1])


def test_the_console_verifies_sets_aside_and_cleans(copy, host, capsys):
    def console(*arguments):
        code = cli.main([*arguments, "--output", str(host.output_dir)])
        return code, capsys.readouterr().out

    assert console("verify", "trial")[0] == 0
    assert console("gc") == (0, "Nothing is left over.\n")
    path = next(copy.glob("prompts/*/latents.safetensors"))
    flipped(path)
    code, said = console("verify", "trial")
    assert code == 1
    assert "latents.safetensors: its checksum does not fit its content; made anew" in said
    assert path.is_file()
    assert "1 damaged files set aside" in console("verify", "trial", "--set-aside")[1]
    assert not path.is_file()

    (copy / ".run.json.12-abcd.part").write_bytes(b"12345")
    deleted = host.output_dir / "gdro" / ".deleted-1234"
    (deleted / "prompts").mkdir(parents=True)
    (deleted / "prompts" / "a.png").write_bytes(b"1" * 1500)
    code, said = console("gc")
    assert "deleted run" in said
    assert "1.5 kB" in said
    assert "unfinished write" in said
    assert deleted.is_dir()
    assert "3 files and folders" in console("gc", "--delete")[1]
    assert not deleted.exists()
    assert console("gc") == (0, "Nothing is left over.\n")
    assert next(copy.glob("prompts/*/000.png")).is_file()


def test_cleaning_leaves_a_run_alone_that_is_being_written(copy, host, capsys):
    from writing_process import other_process

    part = copy / ".run.json.12-abcd.part"
    part.write_bytes(b"12345")
    young = host.lora_dir / "gdro" / ".lora.12-abcd.part"
    young.write_bytes(b"1")
    with other_process(copy):
        assert cli.main(["gc", "--delete", "--output", str(host.output_dir)]) == 2
    assert part.is_file()
    assert young.is_file(), "another training may be writing it"
    assert time.time() - young.stat().st_mtime < 3600
    assert "is being written by process" in capsys.readouterr().err
