"""Write the shipped prompt sets for the bundled model; every run writes the same files.

    python tools/make_prompts.py --out gdro_comfy/assets/prompts

- shapes_train (192) and shapes_heldout (96): captions by ``scenes.shape_caption``, with "include" in
  GenEval's form, so that the composition reward does not have to parse the text.
- words_train (96) and words_heldout (32): signs with the words of ``scenes.SIGN_WORDS`` in four colours.
  No held-out word is in the training set.

In "include", an entry's position is relative to an earlier entry: "A left of B" gives B the position
["right of", 0].
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
    """Return a prompt as a line of a prompt file, with "include" in GenEval's form."""
    include = [{"class": t.shape, "count": t.count, "color": t.color} for t in things]
    if relation:
        include[1]["position"] = [OPPOSITE[relation], 0]
    return {"text": scenes.shape_caption(things, relation), "include": include}


def shape_prompts(rng: random.Random, count: int) -> list[dict]:
    """Return prompts with distinct texts, in random order."""
    by_text: dict[str, dict] = {}
    while len(by_text) < count:
        prompt = shape_prompt(*scenes.random_things(rng))
        by_text.setdefault(prompt["text"], prompt)
    prompts = [*by_text.values()]
    # Frequent captions are drawn first: without this, the training set would get most of them.
    rng.shuffle(prompts)
    return prompts


def word_prompts(rng: random.Random, words: list[str], count: int) -> list[dict]:
    """Return ``count`` signs in random order: every word once before any is used in a second colour."""
    signs = []
    for first in range(len(scenes.SIGN_COLORS)):
        for i, word in enumerate(words):
            color = scenes.SIGN_COLORS[(i + first) % len(scenes.SIGN_COLORS)]
            signs.append({"text": scenes.word_caption(word, color)})
    signs = signs[:count]
    rng.shuffle(signs)
    return signs


def write(path: Path, prompts: list[dict]) -> None:
    """Write prompts as JSON lines, with the same bytes on every system."""
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
