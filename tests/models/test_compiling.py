"""Compiled blocks: the same results, one graph for blocks of one structure, and nothing left behind."""

import pytest
import torch
from recording_host import RecordingHost
from small_training import OBJECTIVE, config, scored
from torch import nn
from torch._dynamo.utils import counters
from torch._inductor import config as inductor

from gdro_comfy.errors import InputError
from gdro_comfy.models import compiling
from gdro_comfy.training.train import train

CPU = torch.device("cpu")


class Network(nn.Module):
    """Three blocks of one structure, and a last layer outside of them."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 8), nn.GELU()) for _ in range(3)
        ).double()
        self.last = nn.Linear(8, 8).double()

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.last(x)


@pytest.fixture
def graphs():
    """Counts the graphs that dynamo compiles; no earlier test's are reused."""
    torch._dynamo.reset()
    counters.clear()
    yield lambda: counters["stats"]["unique_graphs"]
    torch._dynamo.reset()


@pytest.mark.slow
def test_blocks_of_one_structure_are_compiled_once_and_compute_the_same(graphs):
    try:
        compiling.check(CPU)
    except InputError as error:
        pytest.skip(str(error))
    network, before = Network(), graphs()
    x = torch.randn(4, 8, dtype=torch.float64, requires_grad=True)
    expected = torch.autograd.grad(network(x).square().sum(), x)[0]
    with compiling.compiled_blocks(network, CPU):
        compiled = torch.autograd.grad(network(x).square().sum(), x)[0]
        assert graphs() - before == 1
    assert torch.allclose(compiled, expected, rtol=1e-12)


def test_more_shapes_than_torch_allows_for_are_all_compiled(graphs):
    network = Network()
    with (
        torch.compiler.set_stance("default", force_backend="eager"),
        # Otherwise the second shape makes one graph for all: with several dimensions that is not so.
        torch._dynamo.config.patch(automatic_dynamic_shapes=False),
        compiling.compiled_blocks(network, CPU),
    ):
        before = graphs()
        for rows in range(1, 13):
            network(torch.randn(rows, 8, dtype=torch.float64, requires_grad=True))
        assert graphs() - before == 12


def test_the_blocks_are_as_before_after_an_error(graphs):
    network = Network()

    def fail():
        with compiling.compiled_blocks(network, CPU):
            assert all("forward" in vars(block) for block in network.blocks)
            raise RuntimeError("in the middle")

    with (
        torch.compiler.set_stance("default", force_backend="eager"),
        pytest.raises(RuntimeError, match="in the middle"),
    ):
        fail()
    assert all("forward" not in vars(block) for block in network.blocks)


def test_a_training_is_the_same_and_leaves_nothing_compiled(bundled_model, host, tmp_path, graphs):
    plain = train(host, bundled_model, scored(host, bundled_model), OBJECTIVE, config(steps=3))
    other_host = RecordingHost(tmp_path / "elsewhere")
    rollout = scored(other_host, bundled_model)
    assert graphs() == 0
    # Graphs are captured as ever, but run by torch: machine code for them would take minutes.
    with torch.compiler.set_stance("default", force_backend="eager"):
        settings = config(steps=3, torch_compile=True)
        compiled = train(other_host, bundled_model, rollout, OBJECTIVE, settings)
    assert graphs() > 1  # the first is that of the check
    for one, other in zip(plain.history(), compiled.history(), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["error"] == pytest.approx(other["error"], rel=1e-4)
    blocks = bundled_model.transformer.transformer_blocks
    assert all("forward" not in vars(block) for block in blocks)


def test_without_a_compiler_the_training_is_refused_before_its_first_step(
    bundled_model, host, graphs
):
    rollout = scored(host, bundled_model)
    no_compiler = {"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}
    with (
        inductor.patch(no_compiler),
        pytest.raises(InputError, match=r"torch_compile: .*No working C.. compiler.*Turn it off"),
    ):
        train(host, bundled_model, rollout, OBJECTIVE, config(steps=3, torch_compile=True))
    assert not list(host.output_dir.glob("gdro/*/train/*/history.jsonl"))
