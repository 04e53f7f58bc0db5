"""Train the bundled model from scratch: a small Stable Diffusion 3 pipeline for 64-pixel scenes.

    python tools/train_tiny_sd3.py vae   --work build/tiny
    python tools/train_tiny_sd3.py model --work build/tiny --out build/tiny/first
    python tools/train_tiny_sd3.py model --work build/tiny --out gdro_comfy/assets/tiny_sd3 \\
        --init build/tiny/first --steps 3000 --decay 1

Runs on a CPU: a quarter of an hour for the autoencoder, an hour or more for the model, which the last
line finishes with a falling learning rate. Every random number is seeded; threads and BLAS versions
still move the last digits. The networks have the shape that ComfyUI's own loader accepts: as many
heads as layers, heads of 64, 16 latent channels, and latents scaled exactly as those of SD3.
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
# ComfyUI knows one latent scale for every SD3 model; ours is trained to have the same.
SD3_SCALE, SD3_SHIFT = 1.5305, 0.0609
# What the model learns: how to draw it, how often it is not as the caption says, its share.
SCENES = ((scenes.shape_scene, 0.6, 0.8), (scenes.word_scene, 0.6, 0.2))


def to_tensor(images: list) -> torch.Tensor:
    """PIL images to float tensors [n, 3, h, w] in [-1, 1]."""
    array = np.stack([np.asarray(image) for image in images])
    return torch.from_numpy(array).permute(0, 3, 1, 2).float() / 127.5 - 1


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    """Words of the captions are one token each; anything else in ASCII is spelt out by character."""
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
    # New words go to the end, so that weights of an earlier vocabulary keep their rows.
    words += sorted({word.lower() for word in scenes.SIGN_WORDS} - set(words))
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in words])
    return tokenizer


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
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
    """An autoencoder of both kinds of scenes; 8 pixels to one latent cell of 16 channels.

    Run a second time, it goes on from the first, at half the learning rate.
    """
    rng = random.Random(0)
    torch.manual_seed(0)
    again = (work / "vae").is_dir()
    vae = AutoencoderKL.from_pretrained(work / "vae") if again else make_vae()
    peak = 1e-3 if again else 2e-3
    pictures = to_tensor(
        [(scenes.shape_scene if i % 2 else scenes.word_scene)(rng, 0.6)[0] for i in range(8192)]
    )
    optimizer = torch.optim.AdamW(vae.parameters(), lr=peak, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak, total_steps=steps, pct_start=0.05
    )
    start = time.monotonic()
    for step in range(steps):
        if step == steps * 6 // 10 and not again:
            normalise_latents(vae, pictures)
        images = pictures[torch.randint(len(pictures), (batch,))]
        posterior = vae.encode(images).latent_dist
        latents = posterior.mean + 0.15 * torch.randn_like(posterior.mean) * posterior.mean.std()
        output = vae.decode(latents).sample
        # The absolute error alone would be content with the wall and no shapes.
        loss = 4 * F.mse_loss(output, images) + 0.25 * F.l1_loss(output, images)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            mse = F.mse_loss(output, images).item() / 4
            psnr = -10 * math.log10(mse)
            log.info("vae %d/%d %.1f dB %.0f s", step, steps, psnr, time.monotonic() - start)
    vae.save_pretrained(work / "vae")


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, pictures: torch.Tensor) -> None:
    """Fold a scale and a shift per channel into the convolutions at both ends of the latent.

    Afterwards every channel has SD3's mean and deviation, so that (z - shift) * scale is standard.
    """
    z = torch.cat([vae.encode(p).latent_dist.mean for p in pictures[:1024].split(64)])
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
    """Normalised latents [size, 16, 8, 8] (float16) of drawn scenes, and their captions; kept in
    ``work`` for the next time."""
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
    """The two text encoders as StableDiffusion3Pipeline joins them when there is no T5."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.encoders = torch.nn.ModuleList(make_text_encoder(tokenizer) for _ in range(2))

    def ids(self, captions: list[str]) -> torch.Tensor:
        tokens = self.tokenizer(
            captions, padding="max_length", max_length=TEXT_LENGTH, truncation=True
        )
        return torch.tensor(tokens["input_ids"])

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = [encoder(ids, output_hidden_states=True) for encoder in self.encoders]
        hidden = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        return hidden, torch.cat([output.text_embeds for output in outputs], dim=-1)


def save_pipeline(folder: Path, conditioner: Conditioner, transformer, vae: AutoencoderKL) -> None:
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
    # The autoencoder was read from a folder of this machine, which diffusers writes down.
    path = folder / "vae" / "config.json"
    config = json.loads(path.read_text())
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2) + "\n")


def load_weights(model: torch.nn.ModuleList, folder: Path) -> None:
    """Go on from a pipeline that ``save_pipeline`` wrote."""
    for encoder, name in zip(model[0].encoders, ("text_encoder", "text_encoder_2"), strict=True):
        found = CLIPTextModelWithProjection.from_pretrained(folder / name).float().state_dict()
        mine = encoder.state_dict()
        for key, value in found.items():
            mine[key][: len(value)] = value  # an earlier vocabulary may have had fewer words
    found = SD3Transformer2DModel.from_pretrained(folder / "transformer")
    model[1].load_state_dict(found.float().state_dict())


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
    """Flow matching on drawn scenes: velocity = noise - x0, sigma logit-normal, EMA kept.

    The learning rate is constant, and falls to zero over the last ``decay`` of the steps.
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
        pick = torch.randint(len(ids), (batch,))
        x0, tokens = latents[pick].float(), ids[pick]
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
        keep = min(0.999, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(ema.parameters()), list(model.parameters()), 1 - keep)
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
    parser.add_argument("--work", type=Path, required=True, help="folder for the autoencoder")
    parser.add_argument("--out", type=Path, help="folder of the finished pipeline")
    parser.add_argument("--init", type=Path, help="go on from this pipeline")
    parser.add_argument("--steps", type=int, help="default: 1300 for the vae, 12000 for the model")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--decay", type=float, default=0.0, help="share of steps in which it falls")
    parser.add_argument("--size", type=int, default=65536, help="scenes drawn")
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
