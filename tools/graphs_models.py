"""The shipped workflows for real models, and the one that uses an aligned LoRA; see ``graphs.py``.

The files of a model are left open, so that they show no red input where they are missing: the notes say
which to choose, and so does the message on the node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from graphs import BLUE, PURPLE, TINY, TINY_SAMPLING, WHERE, Graph, alignment

SINGLE = {"source": "single files"}
_SIZE = {"width": 512, "height": 512}
_GROUPS = {"images_per_prompt": 16}
_OWL: dict[str, Any] = {"detector": "OWLv2"}
# The settings of the papers; how many steps, they do not say.
_GDRO = {
    "steps": 400, "groups_per_step": 4, "learning_rate": 0.0003, "rank": 32, "alpha": 32.0,
    "algorithm.group_size": 6, "algorithm.temperature": 0.05,
}  # fmt: skip
_GDRO_OCR = {**_GDRO, "algorithm.beta": 12.0, "algorithm.top1_weight": 0.5}
_GDRO_COMPOSITION = {**_GDRO, "algorithm.beta": 6.0, "algorithm.top1_weight": 1.0}
_DGPO = {
    "algorithm": "dgpo", "algorithm.rounds": 20, "algorithm.prompts_per_round": 16,
    "algorithm.sampling_steps": 10, "algorithm.beta": 100.0, "algorithm.kl": 0.02,
    "algorithm.clip": 0.01, "algorithm.sigma_min": 0.82, "steps": 400, "groups_per_step": 2,
    "learning_rate": 0.0003, "rank": 64, "alpha": 128.0, "ema_decay": 0.9, "validate_every": 50,
}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """What a note says of a model.

    Args:
        title: its name.
        files: where its files go and what to choose, in Markdown.
        sampling: of rollout and evaluation.
        passes: network passes for one step of sampling: 2 with classifier-free guidance.
        operations: in 10^12, of one pass for one picture of 512 pixels: 2 x parameters x tokens.
        memory: of training, as ``gdro_comfy/memory.py`` estimates it, and in main memory.
        loading, train: widgets.
    """

    title: str
    files: str
    sampling: dict[str, Any]
    passes: int
    operations: float
    memory: str
    loading: dict[str, Any]
    train: dict[str, Any]


SD35 = Model(
    "SD3.5 medium",
    """| choose at | file | put it into |
|---|---|---|
| `transformer` | `sd3.5_medium.safetensors` (holds the VAE too) | `models/checkpoints` |
| `clip_l` | `clip_l.safetensors` | `models/text_encoders` |
| `clip_g` | `clip_g.safetensors` | `models/text_encoders` |
| `t5` | `t5xxl_fp8_e4m3fn.safetensors`, or none | `models/text_encoders` |""",
    {"steps": 20, "guidance": 4.5, **_SIZE},
    2,
    6.1,
    "training takes 6 GB on the card, and for each picture that goes through at once 2.2 GB, or 0.2 GB "
    "with `gradient_checkpointing` (on *GDRO Train LoRA*, below *advanced*): as many as fit do. T5 takes "
    "9.5 GB while it reads the prompts; without T5 all is smaller. Main memory: 16 GB",
    {},
    {},
)
FLUX = Model(
    "FLUX.1-dev",
    """| choose at | file | put it into |
|---|---|---|
| `transformer` | `flux1-dev.safetensors` (bf16 or fp8) | `models/diffusion_models` |
| `clip_l` | `clip_l.safetensors` | `models/text_encoders` |
| `t5` | `t5xxl_fp8_e4m3fn.safetensors` or `t5xxl_fp16` | `models/text_encoders` |
| `vae` | `ae.safetensors` | `models/vae` |""",
    {"steps": 14, "guidance": 3.5, **_SIZE},
    1,
    36.6,
    "as set here, training takes 9 GB on the card, and 0.8 GB for each picture that goes through at once: "
    "`quantization` is nf4 (`pip install bitsandbytes` in ComfyUI's Python), and "
    "`gradient_checkpointing` is on. With `quantization` none, as in the paper, 26 GB instead of 9. T5 "
    "takes 9.5 GB while it reads the prompts. Main memory while loading: 36 GB",
    {"quantization": "nf4"},
    {"gradient_checkpointing": True},
)


def _hours(model: Model, train: dict[str, Any], prompts: tuple[int, int], images: int) -> str:
    """What there is to compute, counted in passes of the network for one picture."""
    sampling = model.sampling["steps"] * model.passes
    made = prompts[0] * images * sampling
    group = train.get("algorithm.group_size", images)
    online = train.get("algorithm") == "dgpo"
    # Forward, reference (and the older policy), and twice a pass backwards; one more if checkpointed.
    step = (3.5 if not online else 4.5) + bool(model.train.get("gradient_checkpointing"))
    learnt = train["steps"] * train["groups_per_step"] * group * step
    if online:
        new = train["algorithm.prompts_per_round"] * images * train["algorithm.sampling_steps"]
        learnt += (train["algorithm.rounds"] - 1) * new
        checks = train["steps"] // train["validate_every"] + 1
        learnt += checks * prompts[1] * 2 * sampling
    tried = 2 * prompts[1] * 4 * sampling
    total = made + learnt + tried
    hours = total * model.operations / 50 / 3600
    return (
        f"{total / 1000:.0f},000 passes of the network for one picture: {made / 1000:.0f},000 for the "
        f"groups, {learnt / 1000:.0f},000 to train, {tried / 1000:.0f},000 to evaluate. A pass is "
        f"{model.operations} x 10^12 operations: on a card that does 50 x 10^12 a second, about "
        f"{hours:.0f} hours"
    )


def full_size(
    name: str,
    task: str,
    model: Model,
    sets: tuple[str, str],
    reward: tuple[str, dict],
    train: dict,
    needs: str,
    prompts: tuple[int, int] = (128, 32),
) -> Graph:
    """A training of a real model with a paper's settings.

    Args:
        needs: of the reward, for the note.
        prompts: how many to learn on, and to evaluate on.
    """
    online = train.get("algorithm") == "dgpo"
    about = f"""## {task}

**1. Files.** Choose yours on *GDRO Load Base Model*:

{model.files}

**2. Reward.** {needs}

**3. First try.** Set `limit` to 16 on both prompt nodes and `steps` to 50 on *GDRO Train LoRA*, and press
**Run**: that tells whether all is in place.

**Memory** (estimates): {model.memory}. The training says what it will take before it starts.

**Time** (an estimate, not measured): {_hours(model, train, prompts, _GROUPS["images_per_prompt"])}.

The settings are the paper's, at 512 pixels; we have not trained this model at full size yet. {WHERE}"""
    return alignment(
        name, about, {**SINGLE, **model.loading}, sets, reward, {**train, **model.train},
        model.sampling, _GROUPS, prompts, online, online, model_height=300, note_height=440,
    )  # fmt: skip


_OCR_NEEDS = "`pip install rapidocr onnxruntime` in ComfyUI's Python (no download at run time)."
_OWL_NEEDS = """OWLv2 finds the things. Turn on `download` on the reward to let it fetch the detector and CLIP
(2.5 GB, once), or choose *local folder*."""

USE = """## Use an aligned LoRA

ComfyUI's own sampler, twice with the same seed: without the LoRA (strength 0), and with it. Press **Run**:
it works on any computer, with the bundled tiny SD3 and a LoRA that teaches it to draw signs that can be read.

**With your model:** put ComfyUI's own loaders (*Load Checkpoint*, or *Load Diffusion Model*,
*DualCLIPLoader* and *Load VAE*) in the place of *GDRO Load Base Model* and *GDRO Model for ComfyUI*, choose
your LoRA in both *GDRO Load Aligned LoRA* nodes (yours are in `models/loras/gdro`), and set size, steps and
cfg as you do for that model. ComfyUI's own *LoraLoaderModelOnly* does the same.

**Memory and time:** those of ComfyUI's sampler; with the bundled model seconds."""


def use_lora() -> Graph:
    """Sampling with ComfyUI's own nodes, with the LoRA and without."""
    nodes: dict[str, tuple] = {
        "note": ("MarkdownNote", "Read me", (20, -260, 640, 220), {"": USE}, {}),
        "base": ("GDRO_LoadBaseModel", None, (40, 60, 340, 120), TINY, {}),
        "model": ("GDRO_ModelForComfyUI", None, (40, 260, 340, 90), {}, {"model": "base.model"}),
        "prompt": ("CLIPTextEncode", "Prompt", (460, 60, 400, 160),
                   {"text": 'a green sign that says "FOX"'}, {"clip": "model.clip"}),
        "negative": ("CLIPTextEncode", "Negative", (460, 280, 400, 120), {"text": ""},
                     {"clip": "model.clip"}),
        "empty": ("EmptySD3LatentImage", None, (460, 460, 400, 130),
                  {"width": 64, "height": 64, "batch_size": 16}, {}),
    }  # fmt: skip
    for row, (name, strength) in enumerate((("without", 0.0), ("with", 1.0))):
        y = 60 + 520 * row
        nodes |= {
            f"lora_{name}": ("GDRO_LoadAlignedLoRA", f"{name} the LoRA", (920, y, 340, 160),
                             {"lora_name": "bundled: signs (tiny SD3)", "strength": strength},
                             {"model": "model.model"}),
            f"sampler_{name}": ("KSampler", None, (1300, y, 320, 420),
                                {"seed": 1, "control_after_generate": "fixed",
                                 "steps": TINY_SAMPLING["steps"], "cfg": TINY_SAMPLING["guidance"],
                                 "sampler_name": "euler", "scheduler": "simple"},
                                {"model": f"lora_{name}.model", "positive": "prompt.CONDITIONING",
                                 "negative": "negative.CONDITIONING",
                                 "latent_image": "empty.LATENT"}),
            f"decode_{name}": ("VAEDecode", None, (1660, y, 220, 60), {},
                               {"samples": f"sampler_{name}.LATENT", "vae": "model.vae"}),
            f"save_{name}": ("PreviewImage", f"{name} the LoRA", (1660, y + 120, 380, 380), {},
                             {"images": f"decode_{name}.IMAGE"}),
        }  # fmt: skip
    return {
        "nodes": nodes,
        "groups": [
            ("Model and prompt", (20, -20, 860, 640), BLUE),
            ("Without the LoRA, and with it", (900, -20, 1160, 1140), PURPLE),
        ],
    }


GRAPHS: dict[str, Callable[[], Graph]] = {
    "sd35_medium_ocr": lambda: full_size(
        "sd35_ocr", "Teach SD3.5 medium to write (GDRO)", SD35, ("signs_train", "signs_heldout"),
        ("GDRO_OCRReward", {"mode": "detect"}), _GDRO_OCR, _OCR_NEEDS,
    ),
    "flux_dev_ocr": lambda: full_size(
        "flux_ocr", "Teach FLUX.1-dev to write (GDRO)", FLUX, ("signs_train", "signs_heldout"),
        ("GDRO_OCRReward", {"mode": "detect"}), _GDRO_OCR, _OCR_NEEDS,
    ),
    "flux_dev_composition": lambda: full_size(
        "flux_composition", "Teach FLUX.1-dev to count and to place (GDRO)", FLUX,
        ("things_train", "things_heldout"), ("GDRO_CompositionReward", _OWL), _GDRO_COMPOSITION,
        _OWL_NEEDS,
    ),
    "sd35_medium_dgpo_geneval": lambda: full_size(
        "sd35_dgpo", "Composition on SD3.5 medium, in rounds (DGPO)",
        replace(SD35, sampling={**SD35.sampling, "steps": 10, "guidance": 1.0}, passes=1),
        ("things_train", "things_heldout"), ("GDRO_CompositionReward", _OWL), _DGPO, _OWL_NEEDS,
        (32, 16),
    ),
    "use_aligned_lora": use_lora,
}  # fmt: skip
