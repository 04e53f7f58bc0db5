"""The OCR reward, with the real engine on drawn signs."""

import random
import sys

import numpy as np
import pytest
import scenes
from PIL import Image, ImageDraw, ImageFont

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.errors import InputError
from gdro_comfy.rewards import Reward, RewardError, create
from gdro_comfy.rewards.ocr import OCRReward, levenshtein, targets, text_score


@pytest.fixture(scope="module")
def reward():
    pytest.importorskip("rapidocr")
    return create("ocr", mode="auto")


def sign(word, color="blue", seed=0):
    return scenes.draw_word(random.Random(seed), word, color)


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3), ("flaw", "lawn", 2)],
)
def test_levenshtein(a, b, distance):
    assert levenshtein(a, b) == levenshtein(b, a) == distance


@pytest.mark.parametrize(
    ("read", "target", "score"),
    [
        ("OPEN", "open", 1),
        ("we are o p e n today", "OPEN", 1),  # contained, among other words
        ("OPEM", "OPEN", 1 - 1 / 4),
        ("OPN", "OPEN", 1 - 1 / 4),
        ("OPENED", "OPENER", 1 - 1 / 6),
        ("", "OPEN", 0),
        ("something else altogether", "OPEN", 0),  # 22 edits count as 4
        ("hello worl", "Hello World", 1 - 1 / 10),  # spaces do not count
    ],
)
def test_text_score(read, target, score):
    assert text_score(read, target) == pytest.approx(score)


def test_targets_are_the_prompt_s_own_or_what_is_in_quotes():
    assert targets(Prompt('a "CAT" and a “DOG”')) == ["CAT", "DOG"]
    assert targets(Prompt('a "CAT"', target="COW")) == ["COW"]


@pytest.mark.parametrize("prompt", [Prompt("a red sign"), Prompt('a ""'), Prompt("x", target=" ")])
def test_a_prompt_without_text_is_refused(prompt):
    with pytest.raises(InputError, match="double quotes"):
        OCRReward().check_prompts([Prompt('"A"'), prompt])


def test_unknown_mode_is_refused():
    with pytest.raises(InputError, match="auto, line, detect"):
        create("ocr", mode="fast")


def test_the_message_about_a_missing_engine_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(InputError) as error:
        OCRReward().check_prompts([Prompt('"A"')])
    assert f'"{sys.executable}" -m pip install rapidocr onnxruntime' in str(error.value)


def test_drawn_signs_are_read(reward):
    assert isinstance(reward, Reward)
    words = ["CAT", "BOAT", "MOON", "JAM", "TREE", "FOX", "WAVE", "KEY", "DUCK", "ZOO"]
    colors = ["red", "green", "blue", "purple"]
    images = [sign(word, colors[i % 4], i) for i, word in enumerate(words)]
    result = reward.score(images, [Prompt(scenes.word_caption(word, "red")) for word in words])
    assert result.values.dtype == np.float32
    assert (result.values == 1).sum() >= 9
    assert result.details[0] == {"read": "CAT", "target": ["CAT"]}


def test_wrong_letters_cost_their_share(reward):
    result = reward.score([sign("BOAT")], [Prompt('a blue sign that says "BEAT"')])
    assert result.values[0] == pytest.approx(0.75)
    blank = Image.new("RGB", (64, 64), "white")
    assert reward.score([blank], [Prompt('"CAT"')]).values[0] == 0


def test_several_texts_are_averaged(reward):
    result = reward.score([sign("BOAT")], [Prompt('"BOAT" and "MILK"')])
    assert result.values[0] == pytest.approx((1 + 0) / 2)
    assert result.details[0]["target"] == ["BOAT", "MILK"]


def test_lines_of_a_large_image_are_found(reward):
    image = Image.new("RGB", (384, 256), (235, 230, 220))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(40)
    draw.text((60, 40), "FRESH", font=font, fill="black")
    draw.text((180, 160), "BREAD", font=font, fill="darkred")
    result = reward.score([image], [Prompt("a bakery", target="fresh bread")])
    assert result.values[0] == 1
    assert result.details[0]["read"] == "FRESH BREAD"


def test_an_unreadable_image_is_named(reward, tmp_path):
    sign("CAT").save(tmp_path / "whole.png")
    broken = tmp_path / "broken.png"
    broken.write_bytes((tmp_path / "whole.png").read_bytes()[:300])
    with pytest.raises(RewardError, match="image 1 of 'a \"CAT\"'.*truncated"):
        reward.score([sign("CAT"), Image.open(broken)], [Prompt('a "CAT"')] * 2)


def test_cancelling_takes_effect_before_every_image(reward):
    class Stop(Exception):
        pass

    def check():
        raise Stop

    with pytest.raises(Stop):
        reward.score([sign("CAT")], [Prompt('"CAT"')], check)


@pytest.mark.parametrize(
    "text", ["a “CAT”", "a „CAT“", "a «CAT»", "a 「CAT」", 'a "CAT" and ""', 'a "\u200eCAT\ufe0f"']
)
def test_quotes_of_other_languages_and_invisible_marks_are_understood(text, reward):
    assert reward.score([sign("CAT")], [Prompt(text)]).values[0] == 1


@pytest.mark.parametrize("mode", ["auto", "line", "detect"])
@pytest.mark.parametrize("size", [(1, 1), (8192, 64), (3, 500)])
def test_images_of_unusual_sizes_are_read(mode, size, reward):
    blank = Image.new("RGB", size, "white")
    assert create("ocr", mode=mode).read(blank) == ""


@pytest.mark.parametrize("word", ["مرحبا", "🦊", "OPEN 🦊", "ไทย"])
def test_letters_that_the_engine_cannot_read_are_refused(word, reward):
    with pytest.raises(InputError, match="letters that cannot be read here"):
        reward.check_prompts([Prompt(f'a sign that says "{word}"')])


def test_accents_and_some_other_scripts_are_allowed(reward):
    reward.check_prompts([Prompt('"CAFÉ"'), Prompt('"你好"'), Prompt('"Größe"')])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Joe's Diner", "Joe’s Diner"), ("DON'T WALK", "DON`T WALK"), ("Wait...", "Wait…"), ("A-B", "A–B"),
        ("50% OFF!", "50% OFF！"), ("Straße", "STRASSE"), ("ﬁsh", "fish"), ("２０２４", "2024"),
        ('say "HI"', "say “HI”"), ("1/2", "½"),
    ],
)  # fmt: skip
def test_typographic_signs_equal_their_plain_forms_on_both_sides(one, other):
    assert text_score(one, other) == text_score(other, one) == 1


def test_accents_still_count():
    assert text_score("cafe", "café") == 0.75


@pytest.mark.parametrize(
    ("drawn", "prompt"),
    [
        ("LOVE", 'a 12" vinyl record with the word "LOVE" on its label'),
        ("Joe’s Diner", 'a sign that says "Joe’s Diner"'),
        ("Wait…", 'a sign "Wait…"'),
        ("SALE 2024", 'a banner "SALE ２０２４"'),
        ("OPEN", 'a sign that says \\"OPEN\\"'),
    ],
)
def test_a_perfect_answer_scores_1(reward, drawn, prompt):
    image = Image.new("RGB", (512, 200), "white")
    font = ImageFont.load_default(56)
    ImageDraw.Draw(image).text((30, 60), drawn, fill="black", font=font)
    assert reward.score([image], [Prompt(prompt)]).values.tolist() == [1.0]
