"""Help page of the training, the hand-written part; see ``help_text.py``."""

from __future__ import annotations

ADVICE = {
    "GDRO_TrainLoRA": """The LoRA is saved in `models/loras/gdro/`, everything else in `train/` in the run's
folder: `history.jsonl` has the loss, ranking accuracy and errors of every step, `samples/` the pictures made
during training. Cancelling saves a checkpoint. Other settings start another training and leave this one
alone.

*Purpose* and *strength of change*, at the top of the node, set other inputs and are no inputs themselves: the
node says which values they set, and a workflow is saved with the values. Change one of those, and the purpose
is *custom*. Learning rate, layers and rank depend on the model and are left as they are.

*gdro* and *dpo* learn from the existing groups. *dgpo* works in rounds: it samples and scores new groups with
the current model, and needs `reward`. With `validation_prompts` (others than those of the training), base and
aligned model are measured during training and the best weights are kept. With a `guard`, training stops when
the reward rises at the guard's expense, because the reward is then being fooled. The pictures are in
`validation/` in the training's folder.

*nft* ([DiffusionNFT](https://arxiv.org/abs/2509.16117)) and *awm* ([AWM](https://arxiv.org/abs/2509.25050))
work in rounds too. They hold the model close to the weights that sampled each round, and need no guidance
and no particular sampler. *nft* also learns offline, with `rounds` 1. With new groups each round, 4 groups of
16 a step and `learning_rate` 0.002 on the bundled model, *nft* gained in a first trial; where the rate never
falls or training is long, it loses the gain again, so watch the validation.

The guard compares prompts in pairs. Give it about 32 of them: with 8 it seldom notices in time.

The curves on the node grow during training and are restored after a reload. Point at one to read its values
(the raw value in brackets); the slider below goes through the pictures of the steps. *Stop and keep best*
ends the training after the current step with the best validated weights, or with the current ones if there is
no validation; that training then counts as finished, and *Go on* takes the steps that are left. *Save
now* saves a LoRA of the current step next to it and continues.

The node shows how much memory it will need before it starts, and how much time is left after two steps; so do
rollout, scoring and evaluation. `gradient_checkpointing` and `images_at_once` change the memory that is
needed, not what is learned: the gradient is that of the whole step, even if not even one group fits at
once.""",
}
TYPICAL = {
    "GDRO_TrainLoRA": {
        "algorithm.beta": "6 to 12; with the bundled model as in the quickstart",
        "algorithm.top1_weight": "0.5 to 1; with the bundled model as in the quickstart",
        "algorithm.draw": "`random` in the paper, `best and worst` in the quickstart",
        "algorithm.rounds": "gdro: 1, the quickstart 2; nft: 5; dgpo and awm: 8 or more",
        "algorithm.sigma_min": "0.67 for text, 0.82 for composition",
        "algorithm.reference_guidance": "4.5 for groups without guidance, as published; otherwise 1",
        "algorithm.noise_levels": "4 as published, with `rounds` as many as `steps`",
        "steps": "200 to 400 with the bundled model",
        "learning_rate": "3e-4; with the bundled model as in the quickstart",
        "alpha": "as `rank`",
        "target": "`attention+mlp` with the bundled model",
        "gradient_checkpointing": "on for SD3.5 and FLUX.1, off for the bundled model",
        "torch_compile": "on for hundreds of steps of a large model, if it works",
        "images_at_once": "0",
    },
}
MISTAKES = {
    "GDRO_TrainLoRA": [
        (
            "`reference_draws: errors of the reference can be kept only for groups that stay, …`",
            "Set it to 0: rounds make new groups, and dgpo runs the base itself.",
        ),
        (
            "`rank: … has rank …, this training has rank …`, or `target: … changes other layers than …`",
            "To continue from a LoRA (`start_from`), set `rank` and `target` to its values, as "
            "the message says.",
        ),
        ("`rollout: these groups have no scores yet`", "Put GDRO Score Rollout before this node."),
        (
            "`… images have no score`",
            "Run GDRO Score Rollout on the same rollout, and connect its output here.",
        ),
        (
            "`group_size: … images are to train together, of …`",
            "Lower `group_size`, or raise the images per prompt of the rollout.",
        ),
        (
            "`in all … groups every image has the same reward`",
            "Use another reward, more images, or prompts that the model gets right only sometimes.",
        ),
        (
            "`model: these groups were made by another model`",
            "Connect the model that made the rollout, or make a rollout with this one.",
        ),
        (
            "`the loss was not a finite number three times in a row`",
            "Lower `learning_rate` or `beta`. The last good state is kept.",
        ),
        (
            "`model: training needs about … GB, and this device has … GB for it`",
            "Do what the message suggests: `gradient_checkpointing`, or a quantised base from "
            "GDRO Load Base Model.",
        ),
        ("`… is no range of noise levels`", "`sigma_min` must be below `sigma_max`."),
        (
            "`reference_guidance: … has no classifier-free guidance`",
            "Set it to 1: this model has its guidance built in, or has none.",
        ),
        (
            "`ema_every: an average that is updated every … steps learns nothing in …`",
            "Use at most as many as `steps`.",
        ),
        (
            "`weights: there are no older weights to sample with: clip is 0`",
            "Choose `ema` or `current`, or a `clip` above 0.",
        ),
        (
            "`reward: … rounds need it to score their new groups`",
            "Connect the reward of GDRO Score Rollout to `reward` here too.",
        ),
        (
            "`reward: there are validation prompts, but no reward to measure with`",
            "Connect `reward`, or disconnect `validation_prompts`.",
        ),
        (
            "`guard: its range is … to …, which cannot be put on a scale from 1 to 5`",
            "Use another reward as the guard.",
        ),
        (
            "The console says that training stopped because the reward is being fooled",
            "The guard stopped it. To train further, raise `beta` or `top1_weight`, and train "
            "again.",
        ),
        (
            "The node or the console says that validation prompts are also trained on",
            "Use other prompts for validation: on those of the training, the score rises even where the "
            "model has only learned them by heart.",
        ),
        (
            "Pictures become soft or noisy",
            "The model has moved too far from its base. Lower `learning_rate`, raise `beta` or "
            "`top1_weight`, or use fewer `steps`.",
        ),
        (
            "Pictures hardly change",
            "Raise `learning_rate` or `steps`, or lower `beta`. For the bundled model use `attention+mlp`.",
        ),
        (
            "The training ends at once",
            "A training with these settings has already finished. To train again, change a "
            "setting, for example `seed`.",
        ),
    ],
}
