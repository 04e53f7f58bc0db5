"""Describe the shipped workflows for real models and the one that uses an aligned LoRA.

See ``graphs.py`` for the format. No model files are chosen in these graphs, because a chosen file that is
missing would show as a red input. The note and the node's message say which files to choose.
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
# The settings of the papers, except the number of steps, which they do not give.
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
    """A real model: its widgets, and what the note says about it.

    Args:
        title: Name of the model.
        files: Markdown table of the files to choose and the folders they belong in.
        sampling: Sampler widgets of the rollout and the evaluation.
        passes: Network passes per sampling step: 2 with classifier-free guidance, otherwise 1.
        operations: Operations of one pass for one image of 512 pixels, in 10^12: 2 x parameters x tokens.
        memory: GPU memory of a training, as estimated by ``gdro_comfy/training/memory.py``, and main
            memory, in words.
        loading: Further widgets of the model node.
        train: Further widgets of the training node.
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
    """| input | file | folder |
|---|---|---|
| `transformer` | `sd3.5_medium.safetensors` (includes the VAE) | `models/checkpoints` |
| `clip_l` | `clip_l.safetensors` | `models/text_encoders` |
| `clip_g` | `clip_g.safetensors` | `models/text_encoders` |
| `t5` | `t5xxl_fp8_e4m3fn.safetensors`, or none | `models/text_encoders` |""",
    {"steps": 20, "guidance": 4.5, **_SIZE},
    2,
    6.1,
    "training takes 6 GB of GPU memory, plus 2.2 GB for each picture processed at once, or 0.2 GB with "
    "`gradient_checkpointing` (an advanced input of *GDRO Train LoRA*). It processes as many at once as fit. "
    "T5 takes 9.5 GB while it encodes the prompts; without T5 you need less. Main memory: 16 GB",
    {},
    {},
)
FLUX = Model(
    "FLUX.1-dev",
    """| input | file | folder |
|---|---|---|
| `transformer` | `flux1-dev.safetensors` (bf16 or fp8) | `models/diffusion_models` |
| `clip_l` | `clip_l.safetensors` | `models/text_encoders` |
| `t5` | `t5xxl_fp8_e4m3fn.safetensors` or `t5xxl_fp16` | `models/text_encoders` |
| `vae` | `ae.safetensors` | `models/vae` |""",
    {"steps": 14, "guidance": 3.5, **_SIZE},
    1,
    36.6,
    "with the settings here, training takes 9 GB of GPU memory, plus 0.8 GB for each picture processed at "
    "once: `quantization` is nf4 (`pip install bitsandbytes` in ComfyUI's Python) and "
    "`gradient_checkpointing` is on. With `quantization` none, as in the paper, it takes 26 GB instead of 9. "
    "T5 takes 9.5 GB while it encodes the prompts. Main memory while loading: 36 GB",
    {"quantization": "nf4"},
    {"gradient_checkpointing": True},
)


def _hours(model: Model, train: dict[str, Any], prompts: tuple[int, int], images: int) -> str:
    """Return a sentence on the work of a training, counted in network passes for one image."""
    sampling = model.sampling["steps"] * model.passes
    rollout = prompts[0] * images * sampling
    group = train.get("algorithm.group_size", images)
    online = train.get("algorithm") == "dgpo"
    # One forward pass, one of the reference, about 1.5 for the backward pass; one of the older policy in
    # online training, and one for recomputing the forward pass with checkpointing.
    step = (3.5 if not online else 4.5) + bool(model.train.get("gradient_checkpointing"))
    training = train["steps"] * train["groups_per_step"] * group * step
    if online:
        new_images = (train["algorithm.rounds"] - 1) * train["algorithm.prompts_per_round"] * images
        training += new_images * train["algorithm.sampling_steps"]
        validations = train["steps"] // train["validate_every"] + 1
        training += validations * prompts[1] * 2 * sampling
    evaluation = 2 * prompts[1] * 4 * sampling
    total = rollout + training + evaluation
    hours = total * model.operations / 50 / 3600
    return (
        f"{total / 1000:.0f},000 single-picture network passes: {rollout / 1000:.0f},000 for the "
        f"groups, {training / 1000:.0f},000 to train and {evaluation / 1000:.0f},000 to evaluate. A pass is "
        f"{model.operations} x 10^12 operations, so a card that does 50 x 10^12 per second takes about "
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
    """Return the graph of a real model's training with the settings of a paper.

    Args:
        name: Name of the run.
        task: Heading of the note.
        model: The model to align.
        sets: Names of the shipped prompt sets to train on and to evaluate on.
        reward: Node type of the reward and its widgets.
        train: Widgets of the training node.
        needs: What the reward requires, for the note.
        prompts: How many prompts to train on and to evaluate on.
    """
    online = train.get("algorithm") == "dgpo"
    about = f"""## {task}

**1. Files.** Choose your files on *GDRO Load Base Model*:

{model.files}

**2. Reward.** {needs}

**3. Trial run.** Set `limit` to 16 on both prompt nodes and `steps` to 50 on *GDRO Train LoRA*, and press
**Run** to check that everything works.

**Memory** (estimates): {model.memory}. The training reports its own estimate before it starts.

**Time** (estimated, not measured): {_hours(model, train, prompts, _GROUPS["images_per_prompt"])}.

The settings are those of the paper, at 512 pixels. We have not trained this model at full size yet.

{WHERE}"""
    return alignment(
        name, about, {**SINGLE, **model.loading}, sets, reward, {**train, **model.train},
        model.sampling, _GROUPS, prompts, online, online, model_height=300, note_height=440,
    )  # fmt: skip


_OCR_NEEDS = (
    "`pip install rapidocr onnxruntime` in ComfyUI's Python (nothing is downloaded at run time)."
)
_OWL_NEEDS = """OWLv2 detects the objects. Turn on `download` on the reward node to let it fetch the detector
and CLIP (2.5 GB, once), or choose *local folder*."""

USE = """## Use an aligned LoRA

ComfyUI's own sampler runs twice with the same seed: without the LoRA (strength 0) and with it. Press **Run**:
it works on any computer, with the bundled tiny SD3 and a LoRA that teaches it to draw legible signs.

**With your own model:** replace *GDRO Load Base Model* and *GDRO Model for ComfyUI* with ComfyUI's own
loaders (*Load Checkpoint*, or *Load Diffusion Model*, *DualCLIPLoader* and *Load VAE*), choose your LoRA on
both *GDRO Load Aligned LoRA* nodes (yours are in `models/loras/gdro`), and set the size, steps and cfg that
you normally use with that model. ComfyUI's own *LoraLoaderModelOnly* works too.

**Memory and time:** those of ComfyUI's sampler; a few seconds with the bundled model."""


def use_lora() -> Graph:
    """Return a graph that samples with ComfyUI's own nodes, with the LoRA and without it."""
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
            f"lora_{name}": ("GDRO_LoadAlignedLoRA", f"{name.capitalize()} the LoRA", (920, y, 340, 160),
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
            f"save_{name}": ("PreviewImage", f"{name.capitalize()} the LoRA", (1660, y + 120, 380, 380), {},
                             {"images": f"decode_{name}.IMAGE"}),
        }  # fmt: skip
    return {
        "nodes": nodes,
        "groups": [
            ("Model and prompt", (20, -20, 860, 640), BLUE),
            ("Without the LoRA and with it", (900, -20, 1160, 1140), PURPLE),
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
        "flux_composition", "Teach FLUX.1-dev to count and arrange objects (GDRO)", FLUX,
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
