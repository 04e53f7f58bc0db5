"""The shipped workflows, described: ``make_workflows.py`` has the front end build and save them.

A graph is a dict of nodes, key -> (type, title or None, (x, y, width, height), widgets, links), where
links are {input: "key.output"}; and a list of groups (title, (x, y, width, height), colour).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

BLUE, GREEN, ORANGE, PURPLE = "#3f5159", "#3f5a3f", "#6b5334", "#553f6b"
TINY = {"source": "bundled", "source.model": "tiny SD3"}
TINY_SAMPLING = {"steps": 8, "guidance": 1.0}
LARGE_SAMPLING = {"steps": 20, "guidance": 4.5, "width": 512, "height": 512}

Graph = dict[str, Any]


def alignment(
    name: str,
    about: str,
    model: dict,
    sets: tuple[str, str],
    reward: tuple[str, dict],
    train: dict,
    sampling: dict = TINY_SAMPLING,
    rollout: dict | None = None,
    limits: tuple[int, int] = (0, 0),
    online: bool = False,
    validate: bool = False,
    model_height: int = 120,
) -> Graph:
    """The road from a model to an evaluated LoRA.

    Args:
        name: of the run.
        about: the note, in Markdown.
        model: widgets of the model's node.
        sets: shipped prompts to learn on, and to evaluate on.
        reward: a node type and its widgets.
        train: widgets of the training.
        rollout: more widgets of the rollout.
        limits: prompts taken of both sets; 0 is all.
        online: the reward goes into the training too.
        validate: the held-out prompts go into the training too.
    """
    links = {"model": "model.model", "rollout": "score.rollout"}
    if online or validate:
        links["reward"] = "reward.reward"
    if validate:
        links["validation_prompts"] = "heldout.prompts"
    return {
        "nodes": {
            "note": ("MarkdownNote", "Read me", (20, -380, 560, 340), {"": about}, {}),
            "model": ("GDRO_LoadBaseModel", None, (40, 60, 340, model_height), model, {}),
            "prompts": ("GDRO_PromptSet", "Prompts to learn on", (40, 300, 340, 120),
                        {"source.set": sets[0], "limit": limits[0]}, {}),
            "rollout": ("GDRO_GroupRollout", None, (460, 60, 340, 760),
                        {**sampling, "run_name": name, **(rollout or {})},
                        {"model": "model.model", "prompts": "prompts.prompts"}),
            "reward": (reward[0], "What I want more of", (860, 60, 320, 110), reward[1], {}),
            "score": ("GDRO_ScoreRollout", None, (860, 250, 320, 610), {},
                      {"rollout": "rollout.rollout", "reward": "reward.reward"}),
            "train": ("GDRO_TrainLoRA", None, (1260, 60, 380, 1480), train, links),
            "loss": ("LossGraphNode", None, (1260, 1600, 380, 320),
                     {"filename_prefix": f"gdro_{name}_loss"}, {"loss": "train.loss"}),
            "heldout": ("GDRO_PromptSet", "Prompts it has not seen", (1720, 60, 340, 120),
                        {"source.set": sets[1], "limit": limits[1]}, {}),
            "evaluate": ("GDRO_EvaluateAlignment", None, (1720, 260, 620, 1080),
                         {**sampling, "images_per_prompt": 4},
                         {"model": "model.model", "aligned": "train.aligned",
                          "prompts": "heldout.prompts", "reward": "reward.reward"}),
        },
        "groups": [
            ("1  Model and prompts", (20, -20, 400, 900), BLUE),
            ("2  Groups of images, and their reward", (440, -20, 780, 900), GREEN),
            ("3  Train", (1240, -20, 440, 1960), ORANGE),
            ("4  Is it better?", (1700, -20, 660, 1380), PURPLE),
        ],
    }  # fmt: skip


_WHERE = """Cancel whenever you like; Run goes on where it stopped. Pictures and scores are in
`output/gdro`, the LoRA in `models/loras/gdro`."""

QUICKSTART = f"""## Align a model to a reward

Press **Run**. In a few minutes, on any computer:

1. the bundled tiny SD3 draws a group of pictures for each prompt,
2. the reward says which ones obey the prompt,
3. GDRO trains a LoRA on the groups, in two rounds: for the second it samples new groups with what it has
   learned (set `rounds` to 1 to train on the first groups only),
4. base and aligned model are compared on prompts they have not seen.

{_WHERE}"""

SPELLING = f"""## Teach a model to write

The bundled tiny SD3 draws signs, but often scribbles over the word. OCR reads each sign; the reward is how
much of the word it found. Press **Run**: GDRO learns to draw signs that can be read, and is then tried on
words it was not trained on.

Needs `pip install rapidocr onnxruntime` in ComfyUI's Python (no download at run time).

{_WHERE}"""

ONLINE = f"""## Learn from new pictures in every round (DGPO)

As the quickstart, but the training samples and scores new groups with the model as it is by then: each
round is a folder in the training's `rounds`. Every few steps the model is measured on other prompts, and
the best weights are kept.

{_WHERE}"""

SD35 = {
    "source": "single files", "source.transformer": "sd3.5_medium.safetensors",
    "source.clip_l": "clip_l.safetensors", "source.clip_g": "clip_g.safetensors",
    "source.t5": "t5xxl_fp16.safetensors",
}  # fmt: skip
FLUX = {
    "source": "single files", "source.transformer": "flux1-dev.safetensors",
    "source.clip_l": "clip_l.safetensors", "source.t5": "t5xxl_fp8_e4m3fn.safetensors",
    "source.vae": "ae.safetensors",
}  # fmt: skip
SD35_SAMPLING = {"steps": 20, "guidance": 4.5, "width": 512, "height": 512}
FLUX_SAMPLING = {"steps": 14, "guidance": 3.5, "width": 512, "height": 512}

_SD35_FILES = """**Files** (choose them again on *GDRO Load Base Model* if yours have other names):

- `models/diffusion_models` or `checkpoints`: `sd3.5_medium.safetensors`
- `models/text_encoders`: `clip_l`, `clip_g` and, if you like, `t5xxl`"""

_FLUX_FILES = """**Files** (choose them again on *GDRO Load Base Model* if yours have other names):

- `models/diffusion_models`: `flux1-dev.safetensors`
- `models/text_encoders`: `clip_l`, `t5xxl` (fp16 or fp8)
- `models/vae`: `ae.safetensors`"""


def _full_size(task: str, files: str) -> str:
    return f"""## {task}

{files}

The settings are the paper's, at 512 pixels. Start with `limit` 16 on the prompts and 50 steps: that tells
whether the files are right and how long a step takes. If memory runs out, turn on
`gradient_checkpointing` or quantize the model. Not yet tried at full size by the authors of this pack.

{_WHERE}"""


USE = """## Use an aligned LoRA

Plain ComfyUI sampling, twice with the same seed: with the LoRA, and without it (strength 0). Choose a
checkpoint of the model that the LoRA was trained for, and the LoRA in both *GDRO Load Aligned LoRA* nodes
(it is in `models/loras/gdro`). ComfyUI's own *LoraLoaderModelOnly* does the same.

**Files:** a checkpoint in `models/checkpoints` that holds its text encoders, such as
`sd3.5_medium_incl_clips_t5xxlfp8scaled.safetensors`."""

FROM_GRAPH = f"""## A reward from any nodes

**GDRO Rollout Images** hands out the pictures one by one. Whatever nodes you put behind it, here **GDRO
Measure Image**, run once for each picture, and **GDRO Scores from Graph** takes their numbers back as the
reward. Here it is how colourful a picture is; exchange the node in the middle for any that ends in a number.

Press **Run**. At the end both models draw prompts that they were not trained on, with the same seeds; the
same nodes measure these pictures, and **GDRO Compare Rollouts** says by how much the aligned model is better.

{_WHERE}"""

_TINY_TRAIN = {"rank": 32, "alpha": 32.0, "target": "attention+mlp"}
GDRO_TINY = {
    **_TINY_TRAIN, "steps": 400, "learning_rate": 0.001, "algorithm.beta": 8.0,
    "algorithm.top1_weight": 3.0, "algorithm.draw": "best and worst",
}  # fmt: skip

_PAPER = {"steps": 400, "groups_per_step": 4, "learning_rate": 0.0003, "rank": 32, "alpha": 32.0}
_GROUPS = {"images_per_prompt": 16}
_DETECTOR: dict[str, Any] = {"detector": "OWLv2"}


def use_lora() -> Graph:
    """Sampling with ComfyUI's own nodes, with the LoRA and without."""
    nodes: dict[str, tuple] = {
        "note": ("MarkdownNote", "Read me", (20, -320, 560, 260), {"": USE}, {}),
        "checkpoint": ("CheckpointLoaderSimple", None, (20, 60, 380, 130), {}, {}),
        "prompt": ("CLIPTextEncode", "Prompt", (460, 60, 400, 160),
                   {"text": 'a cosy shop with a sign that says "OPEN"'}, {"clip": "checkpoint.CLIP"}),
        "negative": ("CLIPTextEncode", "Negative", (460, 280, 400, 120), {"text": ""},
                     {"clip": "checkpoint.CLIP"}),
        "empty": ("EmptySD3LatentImage", None, (460, 460, 400, 130),
                  {"width": 1024, "height": 1024}, {}),
    }  # fmt: skip
    for row, (name, strength) in enumerate((("with", 1.0), ("without", 0.0))):
        y = 60 + 520 * row
        nodes |= {
            f"lora_{name}": ("GDRO_LoadAlignedLoRA", f"{name} the LoRA", (920, y, 340, 160),
                             {"strength": strength}, {"model": "checkpoint.MODEL"}),
            f"sampler_{name}": ("KSampler", None, (1300, y, 320, 420),
                                {"seed": 1, "steps": 28, "cfg": 4.5, "sampler_name": "euler",
                                 "scheduler": "simple"},
                                {"model": f"lora_{name}.model", "positive": "prompt.CONDITIONING",
                                 "negative": "negative.CONDITIONING",
                                 "latent_image": "empty.LATENT"}),
            f"decode_{name}": ("VAEDecode", None, (1660, y, 220, 60), {},
                               {"samples": f"sampler_{name}.LATENT", "vae": "checkpoint.VAE"}),
            f"save_{name}": ("SaveImage", f"{name} the LoRA", (1660, y + 120, 380, 400),
                             {"filename_prefix": f"gdro_{name}_lora"},
                             {"images": f"decode_{name}.IMAGE"}),
        }  # fmt: skip
    return {
        "nodes": nodes,
        "groups": [
            ("Model and prompt", (0, -20, 880, 640), BLUE),
            ("With the LoRA, and without", (900, -20, 1160, 1140), PURPLE),
        ],
    }


def from_graph(name: str, about: str) -> Graph:
    """A rollout whose pictures are measured by nodes of the graph, and the difference that training made."""
    graph = alignment(
        name, about, TINY, ("shapes_train", "shapes_heldout"), ("GDRO_ScoresFromGraph", {}),
        {**GDRO_TINY, "algorithm.temperature": 0.01}, limits=(96, 0),
    )  # fmt: skip
    nodes = graph["nodes"]
    del nodes["evaluate"]
    nodes["images"] = ("GDRO_RolloutImages", None, (860, 60, 320, 90), {},
                       {"rollout": "rollout.rollout"})  # fmt: skip
    nodes["measure"] = ("GDRO_MeasureImage", "Put your own nodes here", (860, 200, 320, 110),
                        {"measure": "colourfulness"}, {"image": "images.images"})  # fmt: skip
    nodes["reward"] = ("GDRO_ScoresFromGraph", "What I want more of", (860, 360, 320, 120),
                       {"name": "colourfulness"},
                       {"rollout": "rollout.rollout", "scores": "measure.value"})  # fmt: skip
    nodes["score"] = ("GDRO_ScoreRollout", None, (860, 530, 320, 610), {},
                      {"rollout": "rollout.rollout", "reward": "reward.reward"})  # fmt: skip
    nodes["heldout"] = ("GDRO_PromptSet", "Prompts it has not seen", (1720, 60, 340, 120),
                        {"source.set": "shapes_heldout", "limit": 48}, {})  # fmt: skip
    for row, key in enumerate(("base", "aligned")):
        y, links = 250 + row * 800, {"model": "model.model", "prompts": "heldout.prompts"}
        if row:
            links["aligned"] = "train.aligned"
        graded = {"rollout": f"{key}_rollout.rollout"}
        nodes[f"{key}_rollout"] = (
            "GDRO_GroupRollout", f"{key.capitalize()} model", (1720, y, 340, 740),
            {**TINY_SAMPLING, "images_per_prompt": 4, "seed": 1_000_000, "run_name": f"{name}_heldout"},
            links,
        )  # fmt: skip
        nodes[f"{key}_images"] = ("GDRO_RolloutImages", None, (2100, y, 320, 90), {}, graded)
        nodes[f"{key}_measure"] = ("GDRO_MeasureImage", "The same nodes again", (2100, y + 140, 320, 110),
                                   {"measure": "colourfulness"},
                                   {"image": f"{key}_images.images"})  # fmt: skip
        nodes[f"{key}_reward"] = ("GDRO_ScoresFromGraph", None, (2100, y + 300, 320, 120),
                                  {"name": "colourfulness"},
                                  {**graded, "scores": f"{key}_measure.value"})  # fmt: skip
        nodes[f"{key}_score"] = ("GDRO_ScoreRollout", f"{key.capitalize()}: how colourful",
                                 (2460, y, 320, 610), {},
                                 {**graded, "reward": f"{key}_reward.reward"})  # fmt: skip
    nodes["compare"] = ("GDRO_CompareRollouts", None, (2820, 250, 560, 900), {},
                        {"base": "base_score.rollout", "aligned": "aligned_score.rollout"})  # fmt: skip
    graph["groups"] = [
        ("1  Model and prompts", (20, -20, 400, 680), BLUE),
        ("2  Pictures out, numbers in", (440, -20, 780, 1180), GREEN),
        ("3  Train", (1240, -20, 440, 1960), ORANGE),
        ("4  Is it better?", (1700, -20, 1700, 1840), PURPLE),
    ]
    return graph


GRAPHS: dict[str, Callable[[], Graph]] = {
    "quickstart": lambda: alignment(
        "shapes", QUICKSTART, TINY, ("shapes_train", "shapes_heldout"),
        ("GDRO_CompositionReward", {}),
        {**GDRO_TINY, "algorithm.rounds": 2, "algorithm.prompts_per_round": 96}, online=True,
    ),
    "teach_it_to_write": lambda: alignment(
        "words", SPELLING, TINY, ("words_train", "words_heldout"), ("GDRO_OCRReward", {}),
        {**GDRO_TINY, "steps": 240},
    ),
    "dgpo_online": lambda: alignment(
        "online", ONLINE, TINY, ("shapes_train", "shapes_heldout"), ("GDRO_CompositionReward", {}),
        {"algorithm": "dgpo", "algorithm.rounds": 6, "algorithm.prompts_per_round": 16,
         **_TINY_TRAIN, "steps": 240, "groups_per_step": 3, "learning_rate": 0.001,
         "validate_every": 40},
        limits=(48, 0), online=True, validate=True,
    ),
    "custom_reward_from_graph": lambda: from_graph("colourful", FROM_GRAPH),
}  # fmt: skip

# Described, not shipped yet: where their files are missing, the front end shows their inputs in red.
LARGE: dict[str, Callable[[], Graph]] = {
    "sd35_medium_ocr": lambda: alignment(
        "sd35_ocr", _full_size("Teach SD3.5 medium to write", _SD35_FILES), SD35,
        ("signs_train", "signs_heldout"), ("GDRO_OCRReward", {"mode": "detect"}),
        {**_PAPER, "algorithm.beta": 12.0, "algorithm.top1_weight": 0.5},
        SD35_SAMPLING, _GROUPS, limits=(128, 32), model_height=260,
    ),
    "flux_dev_ocr": lambda: alignment(
        "flux_ocr", _full_size("Teach FLUX.1-dev to write", _FLUX_FILES), FLUX,
        ("signs_train", "signs_heldout"), ("GDRO_OCRReward", {"mode": "detect"}),
        {**_PAPER, "algorithm.beta": 12.0, "algorithm.top1_weight": 0.5},
        FLUX_SAMPLING, _GROUPS, limits=(128, 32), model_height=260,
    ),
    "flux_dev_composition": lambda: alignment(
        "flux_composition", _full_size("Teach FLUX.1-dev to count and to place", _FLUX_FILES), FLUX,
        ("things_train", "things_heldout"), ("GDRO_CompositionReward", _DETECTOR),
        {**_PAPER, "algorithm.beta": 6.0, "algorithm.top1_weight": 1.0},
        FLUX_SAMPLING, _GROUPS, limits=(128, 32), model_height=260,
    ),
    "sd35_medium_dgpo_geneval": lambda: alignment(
        "sd35_dgpo", _full_size("DGPO: composition on SD3.5 medium", _SD35_FILES), SD35,
        ("things_train", "things_heldout"), ("GDRO_CompositionReward", _DETECTOR),
        {"algorithm": "dgpo", "algorithm.rounds": 20, "algorithm.prompts_per_round": 16,
         "algorithm.sampling_steps": 10, "algorithm.sigma_min": 0.82, "steps": 400,
         "groups_per_step": 2, "learning_rate": 0.0003, "rank": 64, "alpha": 128.0,
         "validate_every": 50},
        {**SD35_SAMPLING, "steps": 10, "guidance": 1.0}, _GROUPS, limits=(32, 16),
        online=True, validate=True, model_height=260,
    ),
    "use_aligned_lora": use_lora,
}  # fmt: skip
