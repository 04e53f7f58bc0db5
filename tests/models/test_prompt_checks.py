"""What is said of prompts before anything is sampled, with T5's and CLIP's kinds of tokenizers."""

import pytest
import tiny_models
import torch

from gdro_comfy.data.prompt_syntax import read_by_comfyui
from gdro_comfy.data.prompts import Prompt
from gdro_comfy.errors import InputError
from gdro_comfy.models import prompt_checks
from gdro_comfy.models.flux import FluxModel
from gdro_comfy.models.sd3 import SD3Model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def flux():
    return FluxModel(tiny_models.flux_pipeline(), {"pipeline": "flux"}, CPU)


def check(model, *texts):
    model.check_prompts([Prompt(text) for text in texts])


@pytest.mark.parametrize("sign", ["🔴", "红", "é", "<", "{"])
def test_signs_that_a_tokenizer_lacks_are_counted_and_the_set_is_used(flux, caplog, sign):
    check(flux, f"a red circle {sign}", "a red circle", f"a blue circle {sign}")
    assert (
        f"2 of 3 prompts have signs that {type(flux.pipeline.tokenizer_2).__name__}" in caplog.text
    )
    assert sign in caplog.text


def test_a_prompt_of_which_nothing_is_left_is_refused(flux):
    with pytest.raises(InputError, match=r"prompt 2 \('红 色'\) has text this model cannot read"):
        check(flux, "a red circle", "红 色")


def test_prompts_that_reach_the_model_alike_are_named(flux, caplog):
    check(flux, "a red circle 红", "a red circle 色", "a blue circle")
    assert "1 prompts are the same for this model as another one" in caplog.text
    assert "'a red circle 红' and 'a red circle 色'" in caplog.text


def test_a_tokenizer_that_reads_everything_alike_is_named(caplog):
    class Alike:
        model_max_length, unk_token_id = 8, None

        def __call__(self, text, **options):
            return {"input_ids": [0, 1]}

    prompts = [Prompt("a red circle"), Prompt("a blue circle")]
    prompt_checks.say_which_are_alike(prompts, [(Alike(), 8)])
    assert "1 prompts are the same" in caplog.text


def test_different_prompts_are_not_called_alike(flux, caplog):
    check(flux, "a red circle", "a blue circle")
    assert not caplog.text


def test_without_t5_a_long_prompt_is_not_cut_by_both_clips():
    """T5 belongs to this model and is left out, so nothing reads the end."""
    long = "a red circle left of a blue square and the green star and two red circle"
    without = SD3Model(tiny_models.sd3_pipeline(with_t5=False), {"pipeline": "sd3"}, CPU)
    with pytest.raises(InputError, match="This model reads 16, start and end included"):
        check(without, f"{long} of the red star", f"{long} of the blue sign")
    check(SD3Model(tiny_models.sd3_pipeline(), {"pipeline": "sd3"}, CPU), f"{long} of the red star")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a (red:1.3) circle", "a weight as (word:1.3)"),
        ("a ((red)) circle", "words in parentheses"),
        ("a {red|blue} circle", "a choice as {a|b}"),
        ("a circle // red", "a comment after //"),
        ("a circle /* red */", "a comment between"),
        ("a circle \\(red\\)", "an escape"),
        ("embedding:easy a circle", "an embedding"),
        ("http://example.org on a sign", ""),
        ("a circle, 16:9, {red}", ""),
    ],
)
def test_comfyuis_syntax_is_taken_literally_with_a_word(flux, caplog, text, words):
    assert read_by_comfyui(text).startswith(words)
    assert bool(read_by_comfyui(text)) == bool(words)
    prompt_checks.say_what_is_literal([Prompt(text)])
    assert ("would not take literally" in caplog.text) == bool(words)
