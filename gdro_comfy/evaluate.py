"""Base against aligned, on the same prompts and the same seeds: is it better, and by how much?"""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import lora
from .errors import InputError
from .rollout import contact_sheet, default_batch, image_size, sample_images
from .store import RunSettings, digest, png_bytes, write_atomic, write_json

if TYPE_CHECKING:
    from PIL import Image

    from .host import Host
    from .models.base import FlowModel
    from .prompts import Prompt, PromptSet
    from .rewards.base import Reward
    from .train import TrainResult

# The 97.5 % quantile of the normal distribution: a 95 % interval is +- 1.96 standard errors.
_Z95 = 1.959964


@dataclass(frozen=True)
class Comparison:
    """Mean rewards of base and aligned with standard errors over prompts, and of their difference
    on the same prompts and seeds (paired)."""

    reward: str
    prompts: int
    images: int
    base: float
    base_error: float
    aligned: float
    aligned_error: float
    gain: float
    gain_error: float
    win_rate: float

    @property
    def interval(self) -> tuple[float, float]:
        """The paired 95 % interval of the gain."""
        return self.gain - _Z95 * self.gain_error, self.gain + _Z95 * self.gain_error

    @property
    def rose(self) -> bool:
        """Whether the interval of the gain lies above 0."""
        return self.interval[0] > 0

    def table(self) -> str:
        low, high = self.interval
        return "\n".join(
            [
                f"{self.reward}, {self.prompts} prompts x {self.images} images, same seeds",
                f"  base     {self.base:.3f} +- {self.base_error:.3f}",
                f"  aligned  {self.aligned:.3f} +- {self.aligned_error:.3f}",
                f"  gain     {self.gain:+.3f} +- {self.gain_error:.3f}   "
                f"(95 % interval {low:+.3f} to {high:+.3f}; better on {self.win_rate:.0%} of prompts)",
            ]
        )


@dataclass(frozen=True)
class EvaluationConfig:
    """What to compare on.

    Args:
        images_per_prompt: seeds per prompt.
        steps, guidance, width, height: as in a rollout; 0 is the model's own size.
        seed: of the evaluation; keep it apart from the rollout's.
        strength: of the LoRA.
        pictures: rows of the side-by-side picture.
    """

    images_per_prompt: int = 4
    steps: int = 28
    guidance: float = 1.0
    width: int = 0
    height: int = 0
    seed: int = 1_000_000
    strength: float = 1.0
    pictures: int = 6


@dataclass(frozen=True)
class Evaluation:
    """A comparison, its side-by-side picture, and where both were written."""

    comparison: Comparison
    picture: Image.Image
    folder: Path


def compare(reward: str, base: np.ndarray, aligned: np.ndarray) -> Comparison:
    """Compare rewards ``[prompts, images]`` of the same prompts and seeds.

    Standard errors are over prompts (the mean of each prompt's images is one observation), since new
    prompts, not new seeds, are what a creator will use it on.
    """
    if base.shape != aligned.shape or base.ndim != 2 or len(base) < 2:
        raise ValueError(f"need [prompts >= 2, images] twice, not {base.shape} and {aligned.shape}")
    b, a = base.mean(1).astype(np.float64), aligned.mean(1).astype(np.float64)
    root = math.sqrt(len(b))
    difference = a - b
    return Comparison(
        reward=reward,
        prompts=base.shape[0],
        images=base.shape[1],
        base=float(b.mean()),
        base_error=float(b.std(ddof=1) / root),
        aligned=float(a.mean()),
        aligned_error=float(a.std(ddof=1) / root),
        gain=float(difference.mean()),
        gain_error=float(difference.std(ddof=1) / root),
        win_rate=float((np.sign(difference) / 2 + 0.5).mean()),
    )


def evaluate(
    host: Host,
    model: FlowModel,
    aligned: TrainResult,
    prompts: PromptSet,
    reward: Reward,
    config: EvaluationConfig | None = None,
) -> Evaluation:
    """Sample with and without the LoRA, score both, and write the report into the training's folder.

    The same evaluation asked for again is read from disk.
    """
    config = config or EvaluationConfig()
    if len(prompts) < 2:
        raise InputError("prompts", f"{len(prompts)} is too few", "Evaluate on at least 2 prompts.")
    if aligned.model != model.identity:
        raise InputError(
            "aligned",
            "this LoRA was trained for another model",
            "Connect the model it was trained on.",
        )
    size = image_size(model, config.width, config.height)
    model.check_prompts(prompts.prompts)
    reward.check_prompts(prompts.prompts)
    key = {
        **asdict(config),
        "prompts": [prompt.to_json() for prompt in prompts],
        "reward": [reward.name, reward.settings],
    }
    folder = aligned.folder / "evaluations" / digest(key, 10)
    record, picture_file = folder / "result.json", folder / "comparison.png"
    place = {"run": aligned.folder.parent.parent.name, "training": aligned.folder.name}
    host.emit("evaluation", {**place, "evaluation": folder.name})
    if record.is_file() and picture_file.is_file():
        return _read(record, picture_file)

    state = lora.load(aligned.path)
    lora.check_fits(state, model, aligned.path.name)
    host.free_memory()
    settings = RunSettings(model.identity, config.steps, config.guidance, size, config.seed)
    contexts = {
        "base": contextlib.nullcontext(),
        "aligned": model.with_lora(state, config.strength),
    }
    total = 2 * len(prompts) * config.images_per_prompt
    pictures: dict[str, list[Image.Image]] = {}
    rewards: dict[str, np.ndarray] = {}
    for number, (name, context) in enumerate(contexts.items()):
        with model.active(), context:
            pictures[name] = _sample(
                host, model, prompts, settings, config.images_per_prompt, number * total // 2, total
            )
        asked = [prompt for prompt in prompts for _ in range(config.images_per_prompt)]
        scores = _score(host, reward, pictures[name], asked)
        rewards[name] = scores.reshape(len(prompts), config.images_per_prompt)
    comparison = compare(reward.name, rewards["base"], rewards["aligned"])
    picture = side_by_side(pictures, prompts.prompts, config)
    folder.mkdir(parents=True, exist_ok=True)
    data = png_bytes(picture)
    write_atomic(picture_file, lambda file: file.write(data))
    values = {name: np.round(r.astype(float), 6).tolist() for name, r in rewards.items()}
    pairs = _write_pairs(folder / "pairs", pictures, prompts, config.images_per_prompt)
    write_json(
        record,
        {"comparison": asdict(comparison), "settings": key, "rewards": values, "pairs": pairs},
    )
    return Evaluation(comparison, picture, folder)


def _read(record: Path, picture_file: Path) -> Evaluation:
    from PIL import Image

    comparison = Comparison(**json.loads(record.read_text(encoding="utf-8"))["comparison"])
    with Image.open(picture_file) as picture:
        return Evaluation(comparison, picture.convert("RGB"), record.parent)


def _sample(
    host: Host,
    model: FlowModel,
    prompts: PromptSet,
    settings: RunSettings,
    images_per_prompt: int,
    done: int,
    total: int,
) -> list[Image.Image]:
    encoded = model.encode(prompts.prompts)
    asked = [
        (place, int(digest([settings.seed, prompt.text, image], 15), 16))
        for place, prompt in enumerate(prompts)
        for image in range(images_per_prompt)
    ]
    batch_size = default_batch(settings.size)
    images: list[Image.Image] = []
    for start in range(0, len(asked), batch_size):
        places, seeds = zip(*asked[start : start + batch_size], strict=True)
        images += sample_images(host, model, encoded.select(places), seeds, settings)[1]
        preview = contact_sheet(images[-16:], 4)
        host.progress(done + len(images), total, "evaluating", preview)
    return images


def _score(host: Host, reward: Reward, images: list, prompts: list[Prompt]) -> np.ndarray:
    values = []
    for start in range(0, len(images), 64):
        host.check_cancelled()
        at = slice(start, start + 64)
        values.append(reward.score(images[at], prompts[at], host.check_cancelled).values)
    return np.concatenate(values)


def _write_pairs(
    folder: Path, pictures: dict[str, list[Image.Image]], prompts: PromptSet, per_prompt: int
) -> list[dict[str, Any]]:
    """The first image of up to 24 prompts, base and aligned, each as a file; whose they are."""
    folder.mkdir(exist_ok=True)
    count = min(24, len(prompts))
    pairs = []
    for number in range(count):
        place = number * len(prompts) // count
        for name, images in pictures.items():
            data = png_bytes(images[place * per_prompt])
            path = folder / f"{number:03d}_{name}.png"
            write_atomic(path, lambda file, data=data: file.write(data))
        pairs.append({"place": place, "prompt": prompts.prompts[place].text})
    return pairs


def side_by_side(
    pictures: dict[str, list[Image.Image]], prompts: tuple[Prompt, ...], config: EvaluationConfig
) -> Image.Image:
    """Rows of: the prompt, then base above aligned on the same seeds. Prompts are taken evenly from
    the set, not by their result."""
    from PIL import Image, ImageDraw, ImageFont

    rows = min(config.pictures, len(prompts))
    chosen = [int(i * len(prompts) / rows) for i in range(rows)]
    count = min(config.images_per_prompt, 4)
    width, height = next(iter(pictures.values()))[0].size
    # Small pictures are shown larger, by a whole factor so that their pixels stay what they are;
    # large ones are reduced to 384.
    zoom = max(1, round(160 / max(width, height)))
    scale = min(zoom, 384 / max(width, height)) if zoom == 1 else zoom
    width, height = round(width * scale), round(height * scale)
    size = max(13, height // 10)
    font = ImageFont.load_default(size)
    label, gap = int(size * 1.8), 4
    columns = list(pictures)
    block = count * (width + gap) + 3 * gap
    sheet = Image.new("RGB", (len(columns) * block, rows * (height + label) + label), "white")
    draw = ImageDraw.Draw(sheet)
    for c, name in enumerate(columns):
        draw.text((c * block + gap, label // 4), name, fill=(120, 120, 120), font=font)
        for row, place in enumerate(chosen):
            top = label + row * (height + label)
            if c == 0:
                draw.text(
                    (gap, top + label // 8), prompts[place].text[:110], fill="black", font=font
                )
            for i in range(count):
                image = pictures[name][place * config.images_per_prompt + i]
                how = Image.Resampling.NEAREST if zoom > 1 else Image.Resampling.LANCZOS
                image = image.resize((width, height), how)
                sheet.paste(image, (c * block + gap + i * (width + gap), top + label - gap))
    return sheet
