"""A judge without a network: sees how light images are, with noise, a bias, ties and failures."""

from __future__ import annotations

import hashlib
import math
import random
from types import SimpleNamespace

import numpy as np
from PIL import Image

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.rewards.rubric import Answer, Refusal


def lightness(image: Image.Image) -> float:
    """The quality that the judge looks for, in [0, 1]."""
    return float(np.asarray(image.convert("L")).mean()) / 255


class ScriptedJudge:
    """Answers with a verdict on two images, or with points from 1 to 5 on one.

    Args:
        noise: standard deviation of what it misjudges, for each question anew, in units of quality.
        bias: how much better the first image seems than it is.
        tie: how near the images have to be to be called equal.
        failures: the part of the questions that it refuses.
        taste: the quality of an image.
    """

    def __init__(self, noise=0.0, bias=0.0, tie=0.0, failures=0.0, taste=lightness):
        self.noise, self.bias, self.tie = noise, bias, tie
        self.failures, self.taste = failures, taste
        self.identity = {"scripted": [noise, bias, tie, failures]}
        self.asked = []

    def check(self):
        pass

    def estimate(self, images, size, rubric):
        return f"{images} calls of {rubric.pictures} pictures"

    def ask(self, questions, rubric, check_cancelled):
        for index, (images, text) in enumerate(questions):
            check_cancelled()
            images = images if isinstance(images, tuple) else (images,)
            self.asked.append((images, text))
            # The same question is misjudged in the same way.
            seed = hashlib.sha256(text.encode() + b"".join(one.tobytes() for one in images))
            rng = random.Random(seed.hexdigest())
            if rng.random() < self.failures:
                yield index, Refusal("it does not want to")
                continue
            seen = [self.taste(one) + rng.gauss(0, self.noise) for one in images]
            yield index, Answer(self._text(seen))

    def _text(self, seen):
        if len(seen) == 1:
            points = round(1 + 4 * min(1.0, max(0.0, seen[0] + self.bias)))
            return f'{{"score": {points}}}'
        ahead = seen[0] + self.bias - seen[1]
        verdict = "tie" if abs(ahead) < self.tie else "first" if ahead > 0 else "second"
        return f'{{"better": "{verdict}"}}'


def grey(level: float, side: int = 8) -> Image.Image:
    """An image of this quality."""
    return Image.new("RGB", (side, side), (round(255 * level),) * 3)


def rollout_of(groups: list[list[Image.Image]]):
    """Return what a pairwise reward needs of a rollout, with these images."""
    stand_ins = [
        SimpleNamespace(
            folder=SimpleNamespace(name=f"group{i}"),
            prompt=Prompt(f"room {i}"),
            image=lambda index, images=images: images[index],
        )
        for i, images in enumerate(groups)
    ]
    size = groups[0][0].size
    return SimpleNamespace(
        groups=lambda: stand_ins,
        prompts=[one.prompt for one in stand_ins],
        images_per_prompt=len(groups[0]),
        run=SimpleNamespace(settings=SimpleNamespace(size=size)),
    )


def ranking_quality(values: np.ndarray, levels: np.ndarray) -> float:
    """Return the mean rank correlation with the true quality inside groups ``[groups, G]``."""
    rows = []
    for value, level in zip(values, levels, strict=True):
        a, b = value - value.mean(), level.argsort().argsort() - (len(level) - 1) / 2
        size = math.sqrt(float((a**2).sum() * (b**2).sum()))
        rows.append(float((a * b).sum()) / size if size else 0.0)
    return float(np.mean(rows))
