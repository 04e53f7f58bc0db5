"""Time what it costs to score an image on this machine, for each reward that runs here.

    python benchmarks/rewards.py [--rounds 5] [--threads N]

Networks of preference models and of the detector have their real sizes and random weights: the times are
real, the scores are not. Prints the median seconds per image, preparation included. The rewards take turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn
from transformers import (
    BlipTextConfig,
    BlipTextModel,
    BlipVisionConfig,
    BlipVisionModel,
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    Owlv2Config,
    Owlv2ForObjectDetection,
)

from gdro_comfy import rewards
from gdro_comfy.data.prompts import Prompt
from gdro_comfy.rewards.measure import measure
from gdro_comfy.rewards.preference import preprocess
from gdro_comfy.rewards.preference_networks import CLIPScorer, ImageRewardScorer
from gdro_comfy.rewards.similarity import Palette

BATCH = 4
CLIP_SIZES = {
    "CLIP ViT-L/14 (CLIP score, LAION aesthetic)": (1024, 24, 768, 12, 768),
    "CLIP ViT-H/14 (PickScore, HPSv2.1)": (1280, 32, 1024, 24, 1024),
}
"""Width and layers of the vision model, of the text model, and the width of their common space."""


def sign(side: int) -> Image.Image:
    """Draw a word on a wall."""
    image = Image.new("RGB", (side, side), (230, 225, 215))
    font = ImageFont.load_default(side // 4)
    ImageDraw.Draw(image).text((side // 2, side // 2), "OPEN", "black", font, anchor="mm")
    return image


def with_random_weights(make: Callable[[], nn.Module]) -> nn.Module:
    """Return a network with random weights, drawn faster than by its own initialisation."""
    with torch.device("meta"):
        module = make()
    module = module.to_empty(device="cpu").eval()
    values = 0.02 * torch.randn(2**20, generator=torch.Generator().manual_seed(0))
    for weight in module.parameters():
        count = weight.numel()
        weight.data.view(-1).copy_(values.repeat(-(-count // len(values)))[:count])
    for name, buffer in module.named_buffers():
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.shape[-1]))
    return module


def clip(width: int, layers: int, text_width: int, text_layers: int, joint: int) -> nn.Module:
    """Return a CLIP of these sizes that scores images."""
    vision = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers,
              "num_attention_heads": 16, "patch_size": 14, "image_size": 224}  # fmt: skip
    text = {"hidden_size": text_width, "intermediate_size": 4 * text_width,
            "num_hidden_layers": text_layers, "num_attention_heads": text_width // 64}  # fmt: skip
    config = CLIPConfig(projection_dim=joint, vision_config=vision, text_config=text)
    return CLIPScorer(with_random_weights(lambda: CLIPModel(config)), "percent")


def blip() -> nn.Module:
    """Return ImageReward: BLIP with a large vision model and a base text model."""
    vision = BlipVisionConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24,
                              num_attention_heads=16, image_size=224, patch_size=16)  # fmt: skip
    text = BlipTextConfig(encoder_hidden_size=1024, is_decoder=True, use_cache=False)
    return ImageRewardScorer(
        with_random_weights(lambda: BlipVisionModel(vision)),
        with_random_weights(lambda: BlipTextModel(text, add_pooling_layer=False)),
        nn.Linear(text.hidden_size, 1),
    )


def owlv2() -> nn.Module:
    """Return OWLv2 base: patches of 16 in images of 960."""
    vision = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
              "num_attention_heads": 12, "patch_size": 16, "image_size": 960}  # fmt: skip
    return with_random_weights(lambda: Owlv2ForObjectDetection(Owlv2Config(vision_config=vision)))


def contestants() -> dict[str, tuple[Callable[[], object], int]]:
    """Return, by name, a call and the number of images that it scores."""
    small, large = sign(64), sign(512)
    word = Prompt('a sign that says "OPEN"')
    shapes = Prompt("one red circle left of two blue squares")
    batch = np.asarray(large, np.float32)[None] / 255
    composition, quality = rewards.create("composition"), rewards.create("quality")
    palettes = rewards.create("similarity", references=[large], comparison=Palette())
    calls: dict[str, tuple[Callable[[], object], int]] = {
        "composition, shapes, 64 px": (lambda: composition.score([small], [shapes]), 1),
        "image quality, 512 px": (lambda: quality.score([large], [word]), 1),
        "similarity of palettes, 512 px": (lambda: palettes.score([large], [word]), 1),
        "measure image, sharpness, 512 px": (lambda: measure(batch, "sharpness"), 1),
    }
    for mode, image in (("line", small), ("detect", large)):
        ocr = rewards.create("ocr", mode=mode)
        call = (lambda ocr=ocr, image=image: ocr.score([image], [word]), 1)
        calls[f"OCR, {mode}, {image.width} px"] = call
    ids = torch.randint(0, 1000, (BATCH, 20))
    networks = {name: clip(*sizes) for name, sizes in CLIP_SIZES.items()}
    for name, network in {**networks, "ImageReward (BLIP large)": blip()}.items():

        def score(network: nn.Module = network) -> object:
            pixels = torch.from_numpy(np.stack([preprocess(large, 224)] * BATCH))
            return network(pixels, ids, torch.ones_like(ids))

        calls[name] = (score, BATCH)
    dino = with_random_weights(lambda: Dinov2Model(Dinov2Config(image_size=518, patch_size=14)))

    def look() -> object:
        return dino(torch.from_numpy(np.stack([preprocess(large, 224)] * BATCH)))

    calls["DINOv2 base (similarity of looks)"] = (look, BATCH)
    detector = owlv2()

    def detect() -> object:
        pixels = torch.from_numpy(preprocess(large, 960))[None]
        return detector(pixel_values=pixels, input_ids=ids[:2, :16])

    calls["OWLv2 base (composition of photographs)"] = (detect, 1)
    return calls


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    calls = contestants()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    with torch.no_grad():
        for number in range(options.rounds + 1):
            for name, (call, images) in calls.items():
                start = time.perf_counter()
                call()
                if number:  # the first round warms up
                    seconds[name].append((time.perf_counter() - start) / images)
    print(f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}; medians\n")
    print(f"{'':48}seconds per image")
    for name, values in seconds.items():
        print(f"{name:48}{statistics.median(values):10.4f}")


if __name__ == "__main__":
    main()
