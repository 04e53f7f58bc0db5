"""Describe the shipped workflows for real models and the one that uses an aligned LoRA.

See ``graphs.py`` for the format. The models come from ComfyUI's own loaders. Their files are named with the
address from which ComfyUI offers to download what is missing, as its own templates do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from graphs import BLUE, PURPLE, TINY, TINY_SAMPLING, WHERE, Graph, alignment

_SIZE = {"width": 512, "height": 512}
_GROUPS = {"images_per_prompt": 16}
_OWL: dict[str, Any] = {"detector": "OWLv2"}
# The settings of the papers, except the number of steps, which they do not give.
_GDRO = {
    "steps": 400, "groups_per_step": 4, "learning_rate": 0.0003, "rank": 32, "alpha": 32.0,
    "algorithm.group_size": 6, "algorithm.temperature": 0.05, "gradient_checkpointing": True,
}  # fmt: skip
_GDRO_OCR = {**_GDRO, "algorithm.beta": 12.0, "algorithm.top1_weight": 0.5}
_GDRO_COMPOSITION = {**_GDRO, "algorithm.beta": 6.0, "algorithm.top1_weight": 1.0}
# DGPO's variant without guidance, as published; only the number of steps is that of a night.
_DGPO = {
    "algorithm": "dgpo", "algorithm.rounds": 96, "algorithm.prompts_per_round": 8,
    "algorithm.sampling_steps": 10, "algorithm.weights": "current", "algorithm.beta": 100.0,
    "algorithm.kl": 0.02, "algorithm.clip": 0.001, "algorithm.sigma_min": 0.82,
    "algorithm.reference_guidance": 4.5, "algorithm.noise_levels": 4, "algorithm.ema_every": 8,
    "steps": 96, "groups_per_step": 8, "learning_rate": 0.0003, "rank": 64, "alpha": 128.0,
    "ema_decay": 0.9, "validate_every": 24, "preview_every": 24, "gradient_checkpointing": True,
}  # fmt: skip

_HUB = "https://huggingface.co/"
_TEXT_ENCODERS = "comfyanonymous/flux_text_encoders/resolve/main/"
_T5 = (f"{_TEXT_ENCODERS}t5xxl_fp8_e4m3fn_scaled.safetensors", "text_encoders")
_QWEN3 = (
    "Comfy-Org/z_image_turbo/resolve/main/split_files/text_encoders/qwen_3_4b.safetensors",
    "text_encoders",
)
_AE = ("Comfy-Org/Lumina_Image_2.0_Repackaged/resolve/main/split_files/vae/ae.safetensors", "vae")


@dataclass(frozen=True)
class Model:
    """A real model: its loaders, and what the note says about it.

    Args:
        title: Name of the model.
        loaders: Node type, widgets and files of each loader; a file is its address on the hub and the folder
            below ``models``. The output that each gives is found by its name.
        shift: Shift of a ModelSamplingAuraFlow node behind the loader; None without one.
        sampling: Sampler widgets of the rollout and the evaluation.
        passes: Network passes per sampling step: 2 with classifier-free guidance, otherwise 1.
        operations: Of one pass for one image of 512 pixels, in 10^12; counted by benchmarks/real_size.py.
        weights: Of the network on the GPU, in GB.
        step: What a step allocates with one image, recomputed, and for each further one, in GB; counted by
            the same program, with a LoRA of rank 32 on attention.
        files: All files together, in GB.
        published: Whether the settings are those of a paper for this very model.
    """

    title: str
    loaders: tuple[tuple[str, dict[str, Any], tuple[tuple[str, str], ...]], ...]
    sampling: dict[str, Any]
    passes: int
    operations: float
    weights: float
    step: tuple[float, float]
    files: float
    shift: float | None = None
    published: bool = False

    def nodes(self) -> dict[str, tuple]:
        """Return the nodes from the loaders to GDRO Model from ComfyUI, one below the other."""
        nodes: dict[str, tuple] = {}
        outputs: dict[str, str] = {}
        y = 60
        for number, (kind, widgets, files) in enumerate(self.loaders):
            key, height = f"loader_{number}", 90 + 30 * len(widgets)
            models = [
                {"name": address.rpartition("/")[2], "url": _HUB + address, "directory": folder}
                for address, folder in files
            ]
            nodes[key] = (kind, None, (40, y, 340, height), widgets, {}, models)
            outputs |= {output: f"{key}.{output}" for output in _OUTPUTS[kind]}
            y += height + 50
        if self.shift is not None:
            nodes["shift"] = ("ModelSamplingAuraFlow", None, (40, y, 340, 60),
                              {"shift": self.shift}, {"model": outputs["MODEL"]})  # fmt: skip
            outputs["MODEL"] = "shift.MODEL"
            y += 110
        nodes["model"] = (
            "GDRO_ModelFromWires", None, (40, y, 340, 90), {},
            {"model": outputs["MODEL"], "clip": outputs["CLIP"], "vae": outputs["VAE"]},
        )  # fmt: skip
        return nodes

    def table(self) -> str:
        """Return a Markdown table of the files and their folders."""
        rows = [
            f"| `{address.rpartition('/')[2]}` | `models/{folder}` |"
            for _, _, files in self.loaders
            for address, folder in files
        ]
        return "\n".join(["| file | folder |", "|---|---|", *rows])


_OUTPUTS = {
    "CheckpointLoaderSimple": ("MODEL", "CLIP", "VAE"), "UNETLoader": ("MODEL",), "VAELoader": ("VAE",),
    "CLIPLoader": ("CLIP",), "DualCLIPLoader": ("CLIP",),
}  # fmt: skip


def _name(file: tuple[str, str]) -> str:
    return file[0].rpartition("/")[2]


def _parts(
    network: str, clip: tuple[tuple[str, str], ...], clip_type: str, vae: tuple[str, str],
    weight_dtype: str = "default",
) -> tuple:  # fmt: skip
    """Return the loaders of a model in three parts, from their addresses on the hub."""
    unet = (network, "diffusion_models")
    names = ("clip_name1", "clip_name2") if len(clip) > 1 else ("clip_name",)
    text = {**dict(zip(names, map(_name, clip), strict=True)), "type": clip_type}
    return (
        ("UNETLoader", {"unet_name": _name(unet), "weight_dtype": weight_dtype}, (unet,)),
        ("DualCLIPLoader" if len(clip) > 1 else "CLIPLoader", text, clip),
        ("VAELoader", {"vae_name": _name(vae)}, (vae,)),
    )


_SD35_FILE = (
    "Comfy-Org/stable-diffusion-3.5-fp8/resolve/main/sd3.5_medium_incl_clips_t5xxlfp8scaled.safetensors",
    "checkpoints",
)
SD35 = Model(
    "SD3.5 medium",
    (("CheckpointLoaderSimple", {"ckpt_name": _name(_SD35_FILE)}, (_SD35_FILE,)),),
    {"steps": 20, "guidance": 4.5, **_SIZE}, 2, 2.1, 4.9, (0.29, 0.23), 11.6, published=True,
)  # fmt: skip
FLUX = Model(
    "FLUX.1-dev",
    _parts(
        "Comfy-Org/flux1-dev/resolve/main/flux1-dev.safetensors",
        ((f"{_TEXT_ENCODERS}clip_l.safetensors", "text_encoders"), _T5), "flux", _AE, "fp8_e4m3fn",
    ),
    {"steps": 14, "guidance": 3.5, **_SIZE}, 1, 17.7, 11.9, (0.84, 0.67), 29.5, published=True,
)  # fmt: skip
Z_IMAGE = Model(
    "Z-Image",
    _parts(
        "Comfy-Org/z_image/resolve/main/split_files/diffusion_models/z_image_bf16.safetensors",
        (_QWEN3,), "lumina2", _AE,
    ),
    {"steps": 20, "guidance": 4.0, **_SIZE}, 2, 12.9, 12.3, (0.67, 0.58), 20.7, shift=3.0,
)  # fmt: skip
QWEN = Model(
    "Qwen-Image",
    _parts(
        "Comfy-Org/Qwen-Image_ComfyUI/resolve/main/split_files/diffusion_models/"
        "qwen_image_fp8_e4m3fn.safetensors",
        (("Comfy-Org/Qwen-Image_ComfyUI/resolve/main/split_files/text_encoders/"
          "qwen_2.5_vl_7b_fp8_scaled.safetensors", "text_encoders"),), "qwen_image",
        ("Comfy-Org/Qwen-Image_ComfyUI/resolve/main/split_files/vae/qwen_image_vae.safetensors", "vae"),
    ),
    {"steps": 16, "guidance": 4.0, **_SIZE}, 2, 15.7, 20.4, (0.95, 0.57), 30.1, shift=3.1,
)  # fmt: skip
KLEIN = Model(
    "FLUX.2 klein base 4B",
    _parts(
        "Comfy-Org/flux2-klein/resolve/main/split_files/diffusion_models/flux-2-klein-base-4b.safetensors",
        (_QWEN3,), "flux2",
        ("Comfy-Org/flux2-dev/resolve/main/split_files/vae/flux2-vae.safetensors", "vae"),
    ),
    {"steps": 20, "guidance": 5.0, **_SIZE}, 2, 10.2, 7.8, (0.68, 0.61), 16.1,
)  # fmt: skip
CHROMA = Model(
    "Chroma1-HD",
    _parts(
        "Comfy-Org/Chroma1-HD_repackaged/resolve/main/split_files/diffusion_models/"
        "Chroma1-HD-fp8mixed.safetensors",
        (_T5,), "chroma", _AE,
    ),
    {"steps": 20, "guidance": 3.5, "scheduler": "beta", **_SIZE}, 2, 17.9, 8.9, (0.84, 0.67), 14.4,
    shift=1.0,
)  # fmt: skip


def _hours(model: Model, train: dict[str, Any], prompts: tuple[int, int], images: int) -> str:
    """Return a sentence on the work of a training, counted in network passes for one image."""
    sampling = model.sampling["steps"] * model.passes
    rollout = prompts[0] * images * sampling
    group = train.get("algorithm.group_size", images)
    online = train.get("algorithm") == "dgpo"
    # One forward pass, one of the reference, about 1.5 for the backward pass; one of the older policy in
    # online training, and one for recomputing the forward pass with checkpointing.
    # A guided reference takes a second pass of it; each noise level is another image.
    step = (3.5 if not online else 4.5) + bool(train.get("gradient_checkpointing"))
    step += train.get("algorithm.reference_guidance", 1.0) > 1
    levels = train.get("algorithm.noise_levels", 1)
    training = train["steps"] * train["groups_per_step"] * group * levels * step
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


def _memory(model: Model) -> str:
    """Return sentences on the memory of a training with the settings of these graphs."""
    one, each = model.step
    whole = model.weights + one + 2.0  # kernels, adapter and optimizer
    return (
        f"with `gradient_checkpointing`, as here, training takes {whole:.0f} GB of GPU memory with one "
        f"picture at once and {each:.1f} GB for each further one; it takes as many at once as fit. On a "
        "smaller card, ComfyUI keeps a part of the weights in main memory, which is slower. The files are "
        f"about {model.files:.0f} GB, and main memory should hold them"
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
    sampling: dict[str, Any] | None = None,
    follows: str = "",
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
        sampling: Sampler widgets other than the model's.
        follows: What is as published and what is not, for the note, where a sentence does not say it.
    """
    online = train.get("algorithm") == "dgpo"
    model = replace(model, sampling={**model.sampling, **(sampling or {})})
    trial = "`steps` to 50"
    if online:
        trial = "`steps`, `rounds` and `validate_every` to 8"
    settings = follows or (
        "The settings are those of the paper, at 512 pixels."
        if model.published
        else "No paper has settings for this model: these are the ones for FLUX.1-dev, at 512 pixels."
    )
    about = f"""## {task}

**1. Files.** Choose your files on the loaders at the left. Any file of this model will do, fp8 or GGUF too,
and LoRAs between loader and *GDRO Model from ComfyUI* become part of the base. Named here are:

{model.table()}

**2. Reward.** {needs}

**3. Trial run.** Set `limit` to 16 on both prompt nodes and {trial} on *GDRO Train LoRA*, and press
**Run** to check that everything works.

**Memory** (counted, not measured): {_memory(model)}.

**Time** (estimated, not measured): {_hours(model, train, prompts, _GROUPS["images_per_prompt"])}.

{settings} We have not trained this model at full size yet.

{WHERE}"""
    return alignment(
        name, about, model.nodes(), sets, reward, train, model.sampling, _GROUPS, prompts, online, online,
        note_height=600 if not follows else 860,
    )  # fmt: skip


_DGPO_FOLLOWS = """**As published** (the variant of DGPO without guidance, for GenEval): groups of 16, each
step on 8 new groups, 4 noise levels from 0.82 on for each, 10 steps of a DPM-Solver without guidance, the
base with guidance 4.5 as reference, beta 100, kl 0.02, clip 0.001, learning rate 3e-4, LoRA of rank 64,
average 0.9 at every 8th step. **Not as published:** the number of steps (the publication takes many
hundreds, on several cards), a learning rate that falls, noise levels drawn from the whole range instead of
the sampler's own, text as long as ComfyUI makes it instead of 128 tokens, OWLv2 as detector, and the
prompts.

**Disk:** the pictures of all steps stay in the training's `rounds` folder, about 8 GB. Delete it when the
training has finished."""

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
        "note": ("MarkdownNote", "Read me", (-620, -20, 600, 560), {"": USE}, {}),
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
    "flux1_dev_signs": lambda: full_size(
        "flux1_signs", "Teach FLUX.1-dev to write (GDRO)", FLUX, ("signs_train", "signs_heldout"),
        ("GDRO_OCRReward", {"mode": "detect"}), _GDRO_OCR, _OCR_NEEDS,
    ),
    "sd35_medium_signs": lambda: full_size(
        "sd35_signs", "Teach SD3.5 medium to write (GDRO)", SD35, ("signs_train", "signs_heldout"),
        ("GDRO_OCRReward", {"mode": "detect"}), _GDRO_OCR, _OCR_NEEDS,
    ),
    "z_image_signs": lambda: full_size(
        "z_image_signs", "Teach Z-Image to write (GDRO)", Z_IMAGE, ("signs_train", "signs_heldout"),
        ("GDRO_OCRReward", {"mode": "detect"}), _GDRO_OCR, _OCR_NEEDS,
    ),
    "chroma_signs": lambda: full_size(
        "chroma_signs", "Teach Chroma to write (GDRO)", CHROMA, ("signs_train", "signs_heldout"),
        ("GDRO_OCRReward", {"mode": "detect"}), _GDRO_OCR, _OCR_NEEDS,
    ),
    "qwen_image_composition": lambda: full_size(
        "qwen_image_composition", "Teach Qwen-Image to count and arrange objects (GDRO)", QWEN,
        ("things_train", "things_heldout"), ("GDRO_CompositionReward", _OWL), _GDRO_COMPOSITION,
        _OWL_NEEDS,
    ),
    "flux2_klein_composition": lambda: full_size(
        "flux2_klein_composition", "Teach FLUX.2 klein to count and arrange objects (GDRO)", KLEIN,
        ("things_train", "things_heldout"), ("GDRO_CompositionReward", _OWL), _GDRO_COMPOSITION,
        _OWL_NEEDS,
    ),
    "sd35_medium_dgpo_composition": lambda: full_size(
        "sd35_dgpo", "Composition on SD3.5 medium, in rounds (DGPO)", replace(SD35, passes=1),
        ("things_train", "things_heldout"), ("GDRO_CompositionReward", _OWL), _DGPO, _OWL_NEEDS,
        (128, 32), {"steps": 10, "guidance": 1.0, "sampler": "dpmpp_2m"}, _DGPO_FOLLOWS,
    ),
    "use_aligned_lora": use_lora,
}  # fmt: skip
