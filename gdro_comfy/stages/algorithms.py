"""The inputs of each training algorithm: what GDRO Train LoRA shows under its choice."""

from __future__ import annotations

from .base import Input


def _beta(tooltip: str, default: float) -> Input:
    return Input("beta", "FLOAT", tooltip, default=default, minimum=0.01, maximum=10000.0, step=0.5)


def _rounds(default: int, tooltip: str) -> Input:
    return Input("rounds", "INT", tooltip, default=default, minimum=1, maximum=1000)


_NEW_GROUPS = (
    Input(
        "prompts_per_round",
        "INT",
        "Prompts of a round, drawn from the rollout's; 0 is all of them.",
        default=0,
        minimum=0,
        maximum=100000,
    ),
    Input(
        "images_per_prompt",
        "INT",
        "Images of a new group; 0 is as many as in the rollout. The paper: 16 to 24. Too few and the "
        "advantages are noise.",
        default=0,
        minimum=0,
        maximum=1024,
    ),
)

_REFERENCE_DRAWS = Input(
    "reference_draws",
    "INT",
    "0: new noise in every step. Else each group has so many fixed noises, and what the base makes of them "
    "is computed once: faster where a group comes often. Not with rounds.",
    default=0,
    minimum=0,
    maximum=1000,
    advanced=True,
)

_GDRO = (
    Input(
        "group_size",
        "INT",
        "k: images of one prompt that train together. 2 is unsteady, 6 was best in the paper. At most "
        "the images per prompt.",
        default=6,
        minimum=2,
        maximum=64,
    ),
    _beta(
        "How closely the model stays with its base. Too low: the reward is fooled and pictures rot. "
        "Too high: it stops learning early. Paper: 12 for text, 6 for composition.",
        12.0,
    ),
    Input(
        "temperature",
        "FLOAT",
        "tau, in units of reward: smaller differences hardly count. 0.5 learns too little, 0.025 is "
        "unsteady. 0 looks at the order alone.",
        default=0.05,
        minimum=0.0,
        maximum=10.0,
        step=0.005,
    ),
    Input(
        "top1_weight",
        "FLOAT",
        "gamma: holds the model to the best image of each group, which keeps pictures sharp. At 0 they "
        "may rot.",
        default=0.5,
        minimum=0.0,
        maximum=100.0,
        step=0.1,
    ),
    Input(
        "draw",
        "COMBO",
        "Which k of a prompt's images train together: any, or the best and the worst.",
        default="random",
        options=("random", "best and worst"),
    ),
    _rounds(
        1,
        "1 trains on the groups that are there. More divides the steps into rounds, each on new groups "
        "from the model as it is by then: slower, further. Needs the reward.",
    ),
    *_NEW_GROUPS,
    Input(
        "auto_beta",
        "BOOLEAN",
        "Scales beta by noise level so that implicit rewards stay in a useful range. Not in the paper.",
        default=False,
        advanced=True,
    ),
    _REFERENCE_DRAWS,
)

_DGPO = (
    _rounds(
        8,
        "Parts of the training. The first trains on the rollout, each later one on new groups from the "
        "model as it is by then. Few: old pictures teach little. Many: most time goes into sampling.",
    ),
    *_NEW_GROUPS,
    Input(
        "sampling_steps",
        "INT",
        "Steps of the deterministic sampler for new groups; 0 is as many as in the rollout. The paper: "
        "10. Too few and pictures are judged that nobody would make.",
        default=0,
        minimum=0,
        maximum=1000,
    ),
    Input(
        "weights",
        "COMBO",
        "Which weights sample new groups: the averaged ones (steadier), or those of the last step.",
        default="ema",
        options=("ema", "current"),
        advanced=True,
    ),
    _beta(
        "Too low: every group counts the same, also those it obeys already. Too high: groups are "
        "switched off at once. The paper: 100.",
        100.0,
    ),
    Input(
        "kl",
        "FLOAT",
        "Pulls towards the base. Too low: pictures rot. Too high: nothing changes. The paper: 0.02.",
        default=0.02,
        minimum=0.0,
        maximum=100.0,
        step=0.01,
    ),
    Input(
        "clip",
        "FLOAT",
        "How far an image may move in a few steps. Too low: it learns slowly. 0 is no limit, and may "
        "fall apart. The paper: 0.01.",
        default=0.01,
        minimum=0.0,
        maximum=1.0,
        step=0.001,
    ),
    Input(
        "sigma_min",
        "FLOAT",
        "Lowest noise level to train at. Too low: fine detail rots. Too high: it learns nothing of "
        "detail. The paper: 0.67 for text, 0.82 for composition.",
        default=0.67,
        minimum=0.0,
        maximum=0.99,
        step=0.01,
    ),
    Input(
        "advantage_scale",
        "COMBO",
        "Rewards are measured against the spread of their own group, or of the whole batch: then "
        "groups with little to choose between count less.",
        default="group",
        options=("group", "batch"),
        advanced=True,
    ),
)

_DPO = (
    _beta(
        "How closely the model stays with its base. Too low: pictures rot. Too high: it stops learning "
        "early. The scale is that of gdro.",
        100.0,
    ),
    _REFERENCE_DRAWS,
)

CHOICES = {"gdro": _GDRO, "dgpo": _DGPO, "dpo": _DPO}
