"""The words under which the canvas's search finds our nodes."""

import pytest

from gdro_comfy.stages import STAGES
from gdro_comfy.stages.aliases import ALIASES


def found(word):
    """Return the nodes whose names or aliases have a word, as ComfyUI's search matches them."""
    texts = {
        node_id: " | ".join(
            (stage.display_name, *stage.search_aliases, *ALIASES.get(node_id, ()))
        ).lower()
        for node_id, stage in STAGES.items()
    }
    return {node_id for node_id, text in texts.items() if word.lower() in text}


@pytest.mark.parametrize(
    ("word", "node_id"),
    [
        ("grpo", "GDRO_TrainLoRA"),
        ("lora training", "GDRO_TrainLoRA"),
        ("text rendering", "GDRO_OCRReward"),
        ("llm judge", "GDRO_VLMReward"),
        ("rank", "GDRO_RatingReward"),
        ("face", "GDRO_SimilarityReward"),
        ("style", "GDRO_SimilarityReward"),
        ("强化学习", "GDRO_TrainLoRA"),
        ("人脸", "GDRO_SimilarityReward"),
        ("順位", "GDRO_RatingReward"),
        ("学習", "GDRO_TrainLoRA"),
    ],
)
def test_a_node_is_found_by_what_people_call_it(word, node_id):
    assert node_id in found(word)


def test_every_node_has_words_in_each_language():
    assert not STAGES.keys() - ALIASES.keys()
    for node_id, words in ALIASES.items():
        assert sum(not word.isascii() for word in words) >= 2, node_id
        assert any(word.isascii() for word in words), node_id
        assert len(set(words)) == len(words), node_id
