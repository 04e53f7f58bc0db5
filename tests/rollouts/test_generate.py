"""A few pictures of one prompt."""

from gdro_comfy.rollouts.generate import generate


def test_progress_ends_at_its_total_also_with_few_images(host, bundled_model):
    images = generate(host, bundled_model, "one red circle", 3, 0, steps=2, guidance=1.0)
    assert images.shape[0] == 3
    assert host.reports == [("generating", 3, 6), ("generating", 6, 6)]
