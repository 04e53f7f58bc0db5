"""Groups on disk: complete, the same every time, and only what is missing is made."""

import dataclasses
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from recording_host import RecordingHost

from gdro_comfy.data.prompts import PromptSet, from_text
from gdro_comfy.errors import InputError
from gdro_comfy.imaging import contact_sheet, to_pil
from gdro_comfy.progress import Cancelled
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout

PROMPTS = from_text("one red circle\ntwo blue squares\nthree green stars")
CONFIG = RolloutConfig(images_per_prompt=4, steps=2, run_name="trial", batch_size=3)


def files(rollout):
    return {
        path.relative_to(rollout.run.folder): path.read_bytes()
        for path in rollout.run.folder.rglob("*")
        if path.is_file()
    }


def counting(model, monkeypatch):
    """The number of images sampled from now on, as a list that grows."""
    made, sample = [], model.sample

    def counted(cond, seeds, *rest):
        made.extend(seeds)
        return sample(cond, seeds, *rest)

    monkeypatch.setattr(model, "sample", counted)
    return made


def test_every_prompt_gets_its_group(bundled_model, host):
    rollout = sample_rollout(host, bundled_model, PROMPTS, CONFIG)
    for group in rollout.groups():
        assert group.count() == 4
        assert group.latents().shape == (4, 16, 8, 8)
        assert group.image(3).size == (64, 64)
        assert not any(torch.equal(group.latents()[0], other) for other in group.latents()[1:])
    assert host.reports[-1] == ("sampling groups", 12, 12)
    assert host.previews == 4


def test_the_stored_image_is_the_stored_latent(bundled_model, host):
    group = sample_rollout(host, bundled_model, PROMPTS, CONFIG).groups()[1]
    decoded = to_pil(bundled_model.decode(group.latents().float()))[2]
    difference = torch.tensor(list(decoded.tobytes())) - torch.tensor(
        list(group.image(2).tobytes())
    )
    assert difference.abs().max() <= 3  # latents are kept in half precision


def test_repeating_makes_nothing(bundled_model, host, monkeypatch):
    first = files(sample_rollout(host, bundled_model, PROMPTS, CONFIG))
    made = counting(bundled_model, monkeypatch)
    assert files(sample_rollout(host, bundled_model, PROMPTS, CONFIG)) == first
    assert made == []


def test_more_images_and_prompts_add_to_the_run(bundled_model, host, monkeypatch):
    small = sample_rollout(host, bundled_model, PROMPTS, CONFIG)
    kept = small.groups()[0].latents()
    made = counting(bundled_model, monkeypatch)
    prompts = PromptSet((*PROMPTS, *from_text("four yellow triangles")), "more")
    large = sample_rollout(
        host, bundled_model, prompts, RolloutConfig(images_per_prompt=6, steps=2, run_name="trial")
    )
    assert large.run.folder == small.run.folder
    assert len(made) == 3 * 2 + 6
    assert torch.equal(large.groups()[0].latents()[:4], kept)


def test_batch_size_does_not_change_the_images(bundled_model, host, tmp_path):
    one = sample_rollout(host, bundled_model, PROMPTS, CONFIG)
    config = RolloutConfig(images_per_prompt=4, steps=2, run_name="trial", batch_size=12)
    other = sample_rollout(RecordingHost(tmp_path / "other"), bundled_model, PROMPTS, config)
    for a, b in zip(one.groups(), other.groups(), strict=True):
        assert torch.allclose(a.latents().float(), b.latents().float(), atol=2e-2)


def test_cancelling_stops_within_a_step_and_keeps_whole_batches(
    bundled_model, tmp_path, monkeypatch
):
    host = RecordingHost(tmp_path / "output", cancel_after=5)
    with pytest.raises(Cancelled):
        sample_rollout(host, bundled_model, PROMPTS, CONFIG)
    assert host.checks == 6
    host.cancel_after = None
    made = counting(bundled_model, monkeypatch)
    resumed = sample_rollout(host, bundled_model, PROMPTS, CONFIG)
    assert len(made) == 12 - 2 * 3
    assert all(group.count() == 4 for group in resumed.groups())


@pytest.mark.slow
def test_a_killed_rollout_goes_on_to_the_same_files(bundled_model, host, tmp_path):
    script = textwrap.dedent(
        """
        import sys, torch
        from gdro_comfy.data.prompts import from_text
        from gdro_comfy.headless.console_host import ConsoleHost
        from gdro_comfy.models import loading
        from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout

        model = loading.load(loading.bundled_folder("tiny SD3"), torch.device("cpu"))
        prompts = from_text("one red circle\\ntwo blue squares\\nthree green stars")
        config = RolloutConfig(images_per_prompt=4, steps=2, run_name="trial", batch_size=3)
        sample_rollout(ConsoleHost(sys.argv[1], quiet=True), model, prompts, config)
        """
    )
    output = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", script, str(output)])
    try:
        while not list(output.rglob("latents.safetensors")) and process.poll() is None:
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    left = {path: path.stat().st_mtime_ns for path in output.rglob("latents.safetensors")}
    assert left
    resumed = sample_rollout(RecordingHost(output), bundled_model, PROMPTS, CONFIG)
    whole = [path for path in left if path.stat().st_mtime_ns == left[path]]
    assert len(whole) >= len(left) - 1  # at most the group in the middle was added to
    unbroken = sample_rollout(host, bundled_model, PROMPTS, CONFIG)
    for a, b in zip(resumed.groups(), unbroken.groups(), strict=True):
        assert torch.allclose(a.latents().float(), b.latents().float(), atol=2e-2)
        assert a.count() == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images_per_prompt": 1}, "images_per_prompt: 1 leaves nothing to compare"),
        ({"width": 60}, "width: 60 is not a multiple of 16 .*48 or 64"),
        ({"run_name": "../../etc"}, "run_name"),
    ],
)
def test_settings_that_cannot_work_are_refused_first(bundled_model, host, changes, message):
    config = RolloutConfig(**{"images_per_prompt": 4, "steps": 2, "run_name": "trial", **changes})
    with pytest.raises(InputError, match=message):
        sample_rollout(host, bundled_model, PROMPTS, config)
    assert not host.output_dir.exists()


def test_contact_sheet_has_all_pictures():
    from PIL import Image

    sheet = contact_sheet([Image.new("RGB", (10, 8), "red")] * 5, 3, gap=1)
    assert sheet.size == (3 * 11 + 1, 2 * 9 + 1)
    assert sum(p == (255, 0, 0) for p in sheet.getdata()) == 5 * 80


def test_a_sampler_is_refused_by_a_model_that_has_no_choice(bundled_model, host):
    from gdro_comfy.data.runs import SamplerChoice

    config = dataclasses.replace(CONFIG, sampler=SamplerChoice("heun"))
    with pytest.raises(InputError, match="sampler: this model samples with Euler's method only"):
        sample_rollout(host, bundled_model, PROMPTS, config)
    assert not list(host.output_dir.rglob("*.png"))
