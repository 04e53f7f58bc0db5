"""The inputs of each training algorithm: what GDRO Train LoRA shows under its choice."""

from __future__ import annotations

from .base import Input


def _beta(tooltip: str, default: float) -> Input:
    return Input("beta", "FLOAT", tooltip, default=default, min=0.01, max=10000.0, step=0.5)


def _rounds(default: int, tooltip: str) -> Input:
    return Input("rounds", "INT", tooltip, default=default, min=1, max=1000)


_NEW_GROUPS = (
    Input(
        "prompts_per_round",
        "INT",
        "Prompts per round, drawn from the rollout's; 0 uses all of them.",
        default=0,
        min=0,
        max=100000,
    ),
    Input(
        "images_per_prompt",
        "INT",
        "Images per new group; 0 uses as many as in the rollout. The paper: 16 to 24. With too "
        "few, the advantages are noise.",
        default=0,
        min=0,
        max=1024,
    ),
)

_SAMPLING_STEPS = Input(
    "sampling_steps",
    "INT",
    "Steps of the deterministic sampler for new groups; 0 uses as many as in the rollout. The "
    "paper: 10. With too few, it judges pictures that nobody would make.",
    default=0,
    min=0,
    max=1000,
)

_REFERENCE_DRAWS = Input(
    "reference_draws",
    "INT",
    "0: new noise in every step. Otherwise each group has this many fixed noises, and the base's "
    "predictions for them are computed once: faster if groups repeat often. Not with rounds.",
    default=0,
    min=0,
    max=1000,
    advanced=True,
)

_GDRO = (
    Input(
        "group_size",
        "INT",
        "k: images of one prompt that train together. 2 is unstable, 6 was best in the paper. At "
        "most the images per prompt.",
        default=6,
        min=2,
        max=64,
    ),
    _beta(
        "How close the model stays to its base. Too low: the reward is fooled and pictures "
        "degrade. Too high: learning stops early. Paper: 12 for text, 6 for composition.",
        12.0,
    ),
    Input(
        "temperature",
        "FLOAT",
        "tau, in units of the reward: smaller differences hardly count. 0.5 learns too little, "
        "0.025 is unstable. 0 uses the order alone.",
        default=0.05,
        min=0.0,
        max=10.0,
        step=0.005,
    ),
    Input(
        "top1_weight",
        "FLOAT",
        "gamma: ties the model to the best image of each group, which keeps pictures sharp. At 0 "
        "they may degrade.",
        default=0.5,
        min=0.0,
        max=100.0,
        step=0.1,
    ),
    Input(
        "draw",
        "COMBO",
        "Which k images of a prompt train together: any, or the best and the worst.",
        default="random",
        options=("random", "best and worst"),
    ),
    _rounds(
        1,
        "1 trains on the existing groups. More divides the steps into rounds, each on new groups "
        "from the current model: slower, but it gets further. Needs the reward.",
    ),
    *_NEW_GROUPS,
    Input(
        "auto_beta",
        "BOOLEAN",
        "Scales beta by noise level to keep implicit rewards in a useful range. Not in the paper.",
        default=False,
        advanced=True,
    ),
    _REFERENCE_DRAWS,
)

_DGPO = (
    _rounds(
        8,
        "Parts of the training. The first trains on the rollout, each later one on new groups "
        "from the current model. Few: old pictures teach little. Many: most time goes into "
        "sampling.",
    ),
    *_NEW_GROUPS,
    _SAMPLING_STEPS,
    Input(
        "weights",
        "COMBO",
        "Which weights sample new groups: the averaged ones (steadier), those of the last step, or the "
        "older ones that clip compares with.",
        default="ema",
        options=("ema", "current", "old"),
        advanced=True,
    ),
    _beta(
        "Too low: all groups count the same, even those already learned. Too high: groups are "
        "switched off at once. The paper: 100.",
        100.0,
    ),
    Input(
        "kl",
        "FLOAT",
        "Pulls the model towards its base. Too low: pictures degrade. Too high: nothing changes. "
        "The paper: 0.02.",
        default=0.02,
        min=0.0,
        max=100.0,
        step=0.01,
    ),
    Input(
        "clip",
        "FLOAT",
        "How far an image may move in a few steps. Too low: slow learning. 0 is no limit, and the "
        "training may collapse. The paper: 0.01.",
        default=0.01,
        min=0.0,
        max=1.0,
        step=0.001,
    ),
    Input(
        "sigma_min",
        "FLOAT",
        "Lowest noise level to train at. Too low: fine detail degrades. Too high: no detail is "
        "learned. The paper: 0.67 for text, 0.82 for composition.",
        default=0.67,
        min=0.0,
        max=0.99,
        step=0.01,
    ),
    Input(
        "advantage_scale",
        "COMBO",
        "Rewards are measured against the spread of their own group, or of the whole batch; with "
        "the batch, groups that differ little count less.",
        default="group",
        options=("group", "batch"),
        advanced=True,
    ),
    Input(
        "reference_guidance",
        "FLOAT",
        "Guidance of the base that the model is compared with and pulled towards; 1 is none. Published "
        "for groups sampled without guidance: 4.5, with a clip of 0.001. One more pass per image.",
        default=1.0,
        min=1.0,
        max=30.0,
        step=0.5,
        optional=True,
        advanced=True,
    ),
    Input(
        "noise_levels",
        "INT",
        "Noise levels at which each group trains in a step: more is steadier, and takes that many times "
        "as long. Published: 4.",
        default=1,
        min=1,
        max=64,
        optional=True,
        advanced=True,
    ),
    Input(
        "ema_every",
        "INT",
        "Steps between updates of the averaged weights (ema_decay). Published: 8.",
        default=1,
        min=1,
        max=1000,
        optional=True,
        advanced=True,
    ),
)

_DPO = (
    _beta(
        "How close the model stays to its base. Too low: pictures degrade. Too high: learning "
        "stops early. The scale is that of gdro.",
        100.0,
    ),
    _REFERENCE_DRAWS,
)

_WEIGHTS_OF_ROUNDS = Input(
    "weights",
    "COMBO",
    "Which weights sample new groups: the older ones that the loss compares with (the paper), the "
    "averaged ones, or those of the last step.",
    default="old",
    options=("old", "ema", "current"),
    advanced=True,
)

_NFT = (
    _rounds(
        5,
        "Parts of the training. The first trains on the rollout, each later one on new groups "
        "from the model so far. 1 is offline. The paper: one for every step or two.",
    ),
    *_NEW_GROUPS,
    _SAMPLING_STEPS,
    _WEIGHTS_OF_ROUNDS,
    _beta(
        "How close the model stays to the weights that made the images. Too high: it learns nothing. "
        "Too low: pictures degrade. The paper: 1, or 0.1 for text; the bundled model: 0.1.",
        0.1,
    ),
    Input(
        "kl",
        "FLOAT",
        "Pulls the model towards its base. Too low: pictures degrade. Too high: nothing changes. "
        "The paper: 0.0001.",
        default=0.0001,
        min=0.0,
        max=100.0,
        step=0.0001,
    ),
    Input(
        "noise_levels",
        "INT",
        "Noise levels at which each group trains in a step: more is steadier, and takes that many times "
        "as long. The paper: nearly all of the sampler's.",
        default=2,
        min=1,
        max=64,
        advanced=True,
    ),
)

_AWM = (
    _rounds(
        8,
        "Parts of the training. The first trains on the rollout, each later one on new groups "
        "from the model so far. The paper: one for every step or two.",
    ),
    *_NEW_GROUPS,
    _SAMPLING_STEPS,
    _WEIGHTS_OF_ROUNDS,
    Input(
        "old_kl",
        "FLOAT",
        "Pulls the model towards the weights that made the images. At 0 the training collapses. The "
        "paper: 1.",
        default=1.0,
        min=0.0,
        max=1000.0,
        step=0.1,
    ),
    Input(
        "kl",
        "FLOAT",
        "Pulls the model towards its base. Too low: pictures degrade. Too high: nothing changes. "
        "The paper: 0.001 for composition, 0.003 for text.",
        default=0.001,
        min=0.0,
        max=100.0,
        step=0.001,
    ),
    Input(
        "noise_levels",
        "INT",
        "Noise levels at which each group trains in a step: more is steadier, and takes that many times "
        "as long. The paper: 6.",
        default=6,
        min=1,
        max=64,
        advanced=True,
    ),
)

CHOICES = {"gdro": _GDRO, "dgpo": _DGPO, "dpo": _DPO, "nft": _NFT, "awm": _AWM}
