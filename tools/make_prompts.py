"""Write the shipped prompt sets: the same files every time.

    python tools/make_prompts.py --out gdro_comfy/assets/prompts

- shapes_train (192) and shapes_heldout (96): captions in the words of ``scenes.shape_caption``,
  with "include" in GenEval's form, so that the composition reward need not read them;
- words_train (96) and words_heldout (32): signs with the words of ``scenes.SIGN_WORDS`` in four
  colours, the held-out words being others.

In "include" a position is that of the entry it stands in, seen from an earlier entry: "A left of B"
gives B the position ["right of", 0].
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import scenes

SEED = 20260102
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
HELDOUT_WORDS = 8


def shape_prompt(things: list[scenes.Thing], relation: str | None) -> dict:
    include = [{"class": t.shape, "count": t.count, "color": t.color} for t in things]
    if relation:
        include[1]["position"] = [OPPOSITE[relation], 0]
    return {"text": scenes.shape_caption(things, relation), "include": include}


def shape_prompts(rng: random.Random, count: int) -> list[dict]:
    """Prompts with different texts, in no order."""
    found: dict[str, dict] = {}
    while len(found) < count:
        prompt = shape_prompt(*scenes.random_things(rng))
        found.setdefault(prompt["text"], prompt)
    prompts = [*found.values()]
    rng.shuffle(prompts)  # common captions come first: share them between train and held-out
    return prompts


def word_prompts(rng: random.Random, words: list[str], count: int) -> list[dict]:
    """Every word once, then again in another colour, until there are enough."""
    signs = []
    for first in range(len(scenes.SIGN_COLORS)):
        for i, word in enumerate(words):
            color = scenes.SIGN_COLORS[(i + first) % len(scenes.SIGN_COLORS)]
            signs.append({"text": scenes.word_caption(word, color)})
    signs = signs[:count]
    rng.shuffle(signs)
    return signs


def write(path: Path, prompts: list[dict]) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(prompt) + "\n" for prompt in prompts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gdro_comfy/assets/prompts"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    shapes = shape_prompts(random.Random(SEED), 192 + 96)
    write(out / "shapes_train.jsonl", shapes[:192])
    write(out / "shapes_heldout.jsonl", shapes[192:])

    rng = random.Random(SEED)
    words = sorted(scenes.SIGN_WORDS)
    rng.shuffle(words)
    write(out / "words_train.jsonl", word_prompts(rng, words[HELDOUT_WORDS:], 96))
    write(out / "words_heldout.jsonl", word_prompts(rng, words[:HELDOUT_WORDS], 32))


if __name__ == "__main__":
    main()
