"""Every benchmark runs at toy size on the CPU, so that it keeps up with the engine."""

import contextlib
import io
import runpy
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PROGRAMS = sorted(
    path.stem for path in BENCHMARKS.glob("*.py") if "__main__" in path.read_text(encoding="utf-8")
)
TOY = {
    "algorithms": "--budget 7 --prompts 2 --heldout 2 --seeds 0 --only dgpo",
    "fuzz": "--minutes 0.001 --readers weights",
    "gpu": "--small --families flux --size 64 --images 2 --steps 1 --quantizations none",
    "hacking": "--steps 2 --prompts 2 --heldout 2",
    "pairs": "--groups 3 --images 4",
    "loaded_size": "--toy --only SD3.5-medium --sizes 256",
    "main_memory": "--toy --only SD3.5-medium",
    "quickstart": "--prompts 2 --steps 1",
    "real_run": "--toy --size 64",
    "reference_draws": "--draws 0 1 --steps 2 --seeds 1 --prompts 2 --heldout 2",
    "scale": "--prompts 20 --images 2",
    "step": "--families sd3 --size 64 --images 2 --rounds 1",
}
SHOWS = {
    "algorithms": ("shared rollout: 0.3 k passes", "dgpo             0"),
    "fuzz": ("weights", "200 inputs, 0 errors that are not ours"),
    "gpu": ("flux    none    no                 2", "flux    none    yes                1"),
    "hacking": ("without a guard: 2 of 2 steps", "with a guard: ", "corrected score: "),
    "pairs": ("balanced pairs", "0.15  0.60", "questions a group: 4, 6 and 12"),
    "loaded_size": ("SD3.5-medium: 0.18 B", "256 px: 0.", "nf4"),
    "main_memory": ("SD3.5-medium BF16 to none",),
    "real_run": ("two images, two steps each", "one step, loss", "LoRA: 18 of 19 layers changed"),
    "quickstart": ("sampling", "writing", "policy forward", "whole step"),
    "reference_draws": ("     0     0", "     1     0"),
    "scale": ("open and resume, cold", "first page by spread", "103 files, 63 of them no pictures"),
    "step": ("sd3, small", "whole group, checkpointed", "times as fast"),
}
"""Parts of what each prints, from every row or section of its table."""


LONG = ("main_memory", "real_run")


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a benchmark as from the command line, on one CPU thread, and return what it prints."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def run(name, arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(BENCHMARKS)
        monkeypatch.setattr("sys.argv", [f"{name}.py", *arguments.split()])
        # Not capsys: loggers that are first used here would keep writing to its closed stream.
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
            runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")
        return out.getvalue()

    yield run
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_says_how_to_run_it(run, name):
    assert f"python benchmarks/{name}.py" in run(name, "--help")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.long] * (n in LONG)) for n in TOY]
)
def test_it_runs_at_toy_size(run, name):
    backward = torch.Tensor.backward
    out = run(name, TOY[name])
    for part in SHOWS[name]:
        assert part in out
    assert torch.Tensor.backward is backward


def test_algorithms_continues_with_what_is_finished(run):
    """A second run trains nothing again: it prints the same rows, with the same seconds."""
    arguments = (
        "--budget 1 --prompts 2 --heldout 2 --seeds 0 --only best-of-group flow-grpo"
        " --pictures pictures"
    )
    first = run("algorithms", arguments)
    assert first.splitlines()[1:] == run("algorithms", arguments).splitlines()[1:]
    assert {path.name for path in Path("pictures").iterdir()} == {"gains.png", "samples.png"}


def test_every_program_but_those_of_full_size_networks_has_a_toy():
    # rewards needs weights, and faults has its test in tests/faults; the others need ComfyUI, and have theirs
    # in tests/comfyui.
    in_comfyui = {"quickstart_on_wires", "real_size", "real_step"}
    assert set(PROGRAMS) - set(TOY) == {"faults", "rewards", *in_comfyui}
