"""Train the bundled model from scratch: a small Stable Diffusion 3 pipeline for 64-pixel scenes.

    python tools/train_tiny_sd3.py vae   --work build/tiny
    python tools/train_tiny_sd3.py model --work build/tiny --out build/tiny/first
    python tools/train_tiny_sd3.py model --work build/tiny --out gdro_comfy/assets/tiny_sd3 \\
        --init build/tiny/first --steps 3000 --decay 1

Runs on a CPU: a quarter of an hour for the autoencoder, an hour or more for the model. The last command
finishes the model with a falling learning rate. Every random number is seeded, but the last digits still
depend on the number of threads and the BLAS version. The networks have a shape that ComfyUI's own loader
accepts: as many heads as layers, heads of 64, 16 latent channels, and latents scaled exactly like SD3's.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import random
import time
from pathlib import Path

import numpy as np
import scenes
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AddedToken, CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

log = logging.getLogger("tiny_sd3")
LAYERS = 4
TEXT_LENGTH = 16
TEXT_WIDTH = 64
SD3_SCALE, SD3_SHIFT = 1.5305, 0.0609
"""Scale and shift of SD3's latents. ComfyUI uses them for every SD3 model, so ours is trained to match."""
SCENES = ((scenes.shape_scene, 0.6, 0.8), (scenes.word_scene, 0.6, 0.2))
"""What the model learns: function that draws a scene, share of wrong scenes, share of the data set."""


def to_tensor(images: list) -> torch.Tensor:
    """Return PIL images as a float tensor ``[n, 3, h, w]`` in [-1, 1]."""
    array = np.stack([np.asarray(image) for image in images])
    return torch.from_numpy(array).permute(0, 3, 1, 2).float() / 127.5 - 1


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    """Return a tokenizer with one token per caption word; other ASCII text is spelt by character."""
    characters = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    vocabulary = [
        "<|startoftext|>",
        "<|endoftext|>",
        *characters,
        *(c + "</w>" for c in characters),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        model_max_length=TEXT_LENGTH,
    )
    words = sorted(word for word in set(scenes.CAPTION_WORDS) if len(word) > 1)
    # New words go to the end, so that the weights of an earlier vocabulary keep their rows.
    words += sorted({word.lower() for word in scenes.SIGN_WORDS} - set(words))
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in words])
    return tokenizer


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """Return a CLIP text model of two layers with random weights."""
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TEXT_LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def make_transformer() -> SD3Transformer2DModel:
    """Return the transformer with random weights."""
    width = 64 * LAYERS
    model = SD3Transformer2DModel(
        sample_size=scenes.SIZE // 8,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=LAYERS,
        num_attention_heads=LAYERS,
        attention_head_dim=64,
        joint_attention_dim=2 * TEXT_WIDTH,
        pooled_projection_dim=2 * TEXT_WIDTH,
        caption_projection_dim=width,
        pos_embed_max_size=16,
        qk_norm="rms_norm",
    )
    # The initialisation of DiT (Peebles & Xie, 2023): every block starts as the identity.
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            torch.nn.init.xavier_uniform_(parameter)
        if ("norm" in name and ".linear." in name) or name.startswith("proj_out"):
            torch.nn.init.zeros_(parameter)
    return model


def make_vae() -> AutoencoderKL:
    """Return the autoencoder with random weights."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=8,
        sample_size=scenes.SIZE,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
        scaling_factor=SD3_SCALE,
        shift_factor=SD3_SHIFT,
    )


def train_vae(work: Path, steps: int, batch: int = 16) -> None:
    """Train the autoencoder on both kinds of scenes; a latent cell of 16 channels covers 8 x 8 pixels.

    A second run continues from the first at half the learning rate.
    """
    rng = random.Random(0)
    torch.manual_seed(0)
    continued = (work / "vae").is_dir()
    vae = AutoencoderKL.from_pretrained(work / "vae") if continued else make_vae()
    peak = 1e-3 if continued else 2e-3
    images = to_tensor(
        [(scenes.shape_scene if i % 2 else scenes.word_scene)(rng, 0.6)[0] for i in range(8192)]
    )
    optimizer = torch.optim.AdamW(vae.parameters(), lr=peak, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak, total_steps=steps, pct_start=0.05
    )
    start = time.monotonic()
    for step in range(steps):
        if step == steps * 6 // 10 and not continued:
            normalise_latents(vae, images)
        target = images[torch.randint(len(images), (batch,))]
        posterior = vae.encode(target).latent_dist
        latents = posterior.mean + 0.15 * torch.randn_like(posterior.mean) * posterior.mean.std()
        output = vae.decode(latents).sample
        # With the absolute error alone, the output is an empty wall: the shapes are a small part of it.
        loss = 4 * F.mse_loss(output, target) + 0.25 * F.l1_loss(output, target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            mse = F.mse_loss(output, target).item() / 4
            psnr = -10 * math.log10(mse)
            log.info("vae %d/%d %.1f dB %.0f s", step, steps, psnr, time.monotonic() - start)
    vae.save_pretrained(work / "vae")


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, images: torch.Tensor) -> None:
    """Fold a scale and a shift per channel into the convolutions on both sides of the latents.

    Afterwards every channel has SD3's mean and deviation: (z - shift) * scale is standard normal.
    """
    z = torch.cat([vae.encode(batch).latent_dist.mean for batch in images[:1024].split(64)])
    mean, std = z.mean((0, 2, 3)), z.std((0, 2, 3))
    gain = 1 / (SD3_SCALE * std)
    out, back = vae.encoder.conv_out, vae.decoder.conv_in
    out.weight[:16] *= gain[:, None, None, None]
    out.bias[:16] = (out.bias[:16] - mean) * gain + SD3_SHIFT
    back.bias += (back.weight * (mean - SD3_SHIFT / gain)[None, :, None, None]).sum((1, 2, 3))
    back.weight /= gain[None, :, None, None]


@torch.no_grad()
def make_dataset(
    size: int, vae: AutoencoderKL, seed: int, work: Path
) -> tuple[torch.Tensor, list[str]]:
    """Return normalised latents ``[size, 16, 8, 8]`` (float16) of drawn scenes, and their captions.

    They are stored in ``work`` and read from there the next time.
    """
    path = work / f"scenes_{seed}_{size}.safetensors"
    if path.is_file():
        with safe_open(path, "pt") as file:
            return file.get_tensor("latents"), json.loads(file.metadata()["captions"])
    rng = random.Random(f"data {seed}")
    draws, wrong, share = zip(*SCENES, strict=True)
    parts, captions = [], []
    for _ in range(size // 64):
        kinds = rng.choices(range(len(SCENES)), share, k=64)
        images, texts = zip(*(draws[k](rng, wrong[k]) for k in kinds), strict=True)
        z = vae.encode(to_tensor(list(images))).latent_dist.mean
        parts.append(((z - SD3_SHIFT) * SD3_SCALE).half())
        captions.extend(texts)
    latents = torch.cat(parts).contiguous()
    save_file({"latents": latents}, path, {"captions": json.dumps(captions)})
    return latents, captions


class Conditioner(torch.nn.Module):
    """The two text encoders, joined as StableDiffusion3Pipeline joins them without T5."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.encoders = torch.nn.ModuleList(make_text_encoder(tokenizer) for _ in range(2))

    def ids(self, captions: list[str]) -> torch.Tensor:
        """Return token ids ``[n, TEXT_LENGTH]``."""
        tokens = self.tokenizer(
            captions, padding="max_length", max_length=TEXT_LENGTH, truncation=True
        )
        return torch.tensor(tokens["input_ids"])

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return hidden states ``[n, TEXT_LENGTH, 2 * TEXT_WIDTH]`` and pooled ``[n, 2 * TEXT_WIDTH]``."""
        outputs = [encoder(ids, output_hidden_states=True) for encoder in self.encoders]
        hidden = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        return hidden, torch.cat([output.text_embeds for output in outputs], dim=-1)


def save_pipeline(folder: Path, conditioner: Conditioner, transformer, vae: AutoencoderKL) -> None:
    """Write a float16 copy of all parts as a diffusers pipeline."""
    pipeline = StableDiffusion3Pipeline(
        transformer=copy.deepcopy(transformer).half(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=copy.deepcopy(vae).half(),
        text_encoder=copy.deepcopy(conditioner.encoders[0]).half(),
        text_encoder_2=copy.deepcopy(conditioner.encoders[1]).half(),
        text_encoder_3=None,
        tokenizer=conditioner.tokenizer,
        tokenizer_2=conditioner.tokenizer,
        tokenizer_3=None,
    )
    pipeline.save_pretrained(folder)
    # diffusers records the local folder that the autoencoder was read from.
    path = folder / "vae" / "config.json"
    config = json.loads(path.read_text())
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2) + "\n")


def load_weights(model: torch.nn.ModuleList, folder: Path) -> None:
    """Load the weights of a pipeline that ``save_pipeline`` wrote."""
    for encoder, name in zip(model[0].encoders, ("text_encoder", "text_encoder_2"), strict=True):
        saved = CLIPTextModelWithProjection.from_pretrained(folder / name).float().state_dict()
        weights = encoder.state_dict()
        for key, value in saved.items():
            weights[key][: len(value)] = value  # an earlier vocabulary may have had fewer words
    transformer = SD3Transformer2DModel.from_pretrained(folder / "transformer")
    model[1].load_state_dict(transformer.float().state_dict())


def train_model(
    work: Path,
    out: Path,
    init: Path | None,
    steps: int,
    batch: int,
    size: int,
    peak: float,
    decay: float,
    compiled: bool,
) -> None:
    """Train the model by flow matching on drawn scenes, and save its moving average.

    The target velocity is noise - x0, and sigma is logit-normal. The learning rate is constant, then falls
    to zero over the last ``decay`` (a share of the steps).
    """
    vae = AutoencoderKL.from_pretrained(work / "vae")
    torch.manual_seed(1 if init is None else 2)
    tokenizer = make_tokenizer(work / "tokenizer")
    model = torch.nn.ModuleList([Conditioner(tokenizer), make_transformer()])
    if init is not None:
        load_weights(model, init)
    ema = copy.deepcopy(model).requires_grad_(False)
    latents, captions = make_dataset(size, vae, 0 if init is None else 1, work)
    ids = model[0].ids(captions)
    empty = model[0].ids([""])
    log.info("%d scenes, %d tokens in the vocabulary", len(ids), len(tokenizer))

    optimizer = torch.optim.AdamW(
        [
            {"params": model[0].parameters(), "lr": 2 * peak},
            {"params": model[1].parameters(), "lr": peak},
        ],
        betas=(0.9, 0.99),
        weight_decay=0.01,
        fused=True,
    )
    network = torch.compile(model[1]) if compiled else model[1]
    warm_up = 200

    def rate(step: int) -> float:
        left = (steps - step) / max(1.0, decay * steps)
        return min(1.0, (step + 1) / warm_up, max(left, 0.01))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    start, recent = time.monotonic(), []
    for step in range(1, steps + 1):
        indices = torch.randint(len(ids), (batch,))
        x0, tokens = latents[indices].float(), ids[indices]
        tokens = torch.where(torch.rand(batch, 1) < 0.1, empty, tokens)
        noise, sigma = torch.randn_like(x0), torch.sigmoid(torch.randn(batch))
        s = sigma[:, None, None, None]
        hidden, pooled = model[0](tokens)
        velocity = network(
            hidden_states=(1 - s) * x0 + s * noise,
            encoder_hidden_states=hidden,
            pooled_projections=pooled,
            timestep=sigma * 1000,
        ).sample
        loss = F.mse_loss(velocity, noise - x0)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        ema_decay = min(0.999, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(ema.parameters()), list(model.parameters()), 1 - ema_decay)
        recent.append(loss.item())
        if step % 100 == 0:
            log.info(
                "%d/%d loss %.4f %.0f s",
                step, steps, sum(recent) / len(recent), time.monotonic() - start,
            )  # fmt: skip
            recent.clear()
        if step % 1000 == 0 or step == steps:
            save_pipeline(out, ema[0], ema[1], vae)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("vae", "model"))
    parser.add_argument("--work", type=Path, required=True, help="folder for intermediate results")
    parser.add_argument("--out", type=Path, help="folder for the finished pipeline")
    parser.add_argument("--init", type=Path, help="continue from this pipeline")
    parser.add_argument("--steps", type=int, help="default: 1300 for the vae, 12000 for the model")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument(
        "--decay", type=float, default=0.0, help="share of steps in which it falls to zero"
    )
    parser.add_argument("--size", type=int, default=65536, help="number of scenes to draw")
    parser.add_argument(
        "--compile", action="store_true", help="a fifth faster; needs a C++ compiler"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options.work.mkdir(parents=True, exist_ok=True)
    if options.what == "vae":
        train_vae(options.work, options.steps or 1300)
    else:
        train_model(
            options.work,
            options.out or options.work / "model",
            options.init,
            options.steps or 12000,
            options.batch,
            options.size,
            options.rate,
            options.decay,
            options.compile,
        )


if __name__ == "__main__":
    main()
