"""The hand-written part of the help page of the training; see ``help_text.py``."""

from __future__ import annotations

ADVICE = {
    "GDRO_TrainLoRA": """The LoRA is written to `models/loras/gdro/`, everything else to `train/` in
the folder of the run: `history.jsonl` has loss, ranking accuracy and errors of every step,
`samples/` the pictures on the way. Cancelling saves a checkpoint; other settings are another
training and leave this one alone.

*gdro* and *dpo* learn from the groups that are there. *dgpo* works in rounds: it samples and scores
new groups with the model as it is by then, and needs `reward`. With `validation_prompts` (others
than those of the training) it also measures base and aligned model on the way and keeps the best
weights; with a `guard` it stops when the reward rises at the guard's cost, because then the reward
is being fooled. `validation/` in the folder of the training has the pictures.

The curves on the node grow while it trains, and are there again after a reload. Point at one to read
its values (the raw one in brackets); the slider below goes through the pictures of the steps. *Stop
and keep best* ends the training after the present step with the best validated weights, or the
present ones without validation; that training then counts as finished. *Save now* writes a LoRA of
the present step beside it and goes on.

The node says what memory it will take before it starts, and how long is left once two steps are done; so do
rollout, scoring and evaluation. `gradient_checkpointing` and
`images_at_once` change how much is needed, not what is learned: the gradient is that of the whole
step, also where not even one group fits at once.""",
}
TYPICAL = {
    "GDRO_TrainLoRA": {
        "algorithm.beta": "6 to 12; with the bundled model as in the quickstart",
        "algorithm.top1_weight": "0.5 to 1; with the bundled model as in the quickstart",
        "algorithm.draw": "`random` in the paper, `best and worst` in the quickstart",
        "algorithm.rounds": "gdro: 1, the quickstart 2; dgpo: 8 or more",
        "algorithm.sigma_min": "0.67 for text, 0.82 for composition",
        "steps": "200 to 400 with the bundled model",
        "learning_rate": "3e-4; with the bundled model as in the quickstart",
        "alpha": "as `rank`",
        "target": "`attention+mlp` with the bundled model",
        "gradient_checkpointing": "on for SD3.5 and FLUX.1, off for the bundled model",
        "torch_compile": "on for hundreds of steps of a large model, where it works",
        "images_at_once": "0",
    },
}
MISTAKES = {
    "GDRO_TrainLoRA": [
        (
            "`reference_draws: what is kept of the base is for the groups that are there, …`",
            "Set it to 0: rounds make new groups, and dgpo looks at the base itself.",
        ),
        (
            "`rank: … has rank …, and here it is …`, or `target: … changes other layers than …`",
            "To go on from a LoRA (`start_from`), set `rank` and `target` to its own, as the message says.",
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
            "Connect the model of the rollout, or make a rollout with this one.",
        ),
        (
            "`the loss was not a finite number three times in a row`",
            "Lower `learning_rate` or `beta`. The last good state is kept.",
        ),
        (
            "`model: training needs about … GB, and this device has … GB for it`",
            "Do what the message says would fit: `gradient_checkpointing`, or a quantised base from GDRO "
            "Load Base Model.",
        ),
        ("`… is no range of noise levels`", "`sigma_min` must be below `sigma_max`."),
        (
            "`reward: … rounds need it to score their new groups`",
            "Connect the reward that went into GDRO Score Rollout to `reward` here too.",
        ),
        (
            "`reward: there are validation prompts and nothing to measure on them`",
            "Connect `reward`, or take `validation_prompts` away.",
        ),
        (
            "`guard: its range is … to …, which cannot be put on a scale from 1 to 5`",
            "Use another reward as the guard.",
        ),
        (
            "The console says that training stopped because the reward is being fooled",
            "That is the guard at work. For more, raise `beta` or `top1_weight`, and train again.",
        ),
        (
            "Pictures get soft or noisy",
            "The model moved too far from its base. Lower `learning_rate`, raise `beta` or `top1_weight`, or "
            "use fewer `steps`.",
        ),
        (
            "Pictures hardly change",
            "Raise `learning_rate` or `steps`, or lower `beta`. For the bundled model use `attention+mlp`.",
        ),
        (
            "It ends at once",
            "A training with these settings is finished already. Change a setting, `seed` for example, to "
            "train again.",
        ),
    ],
}
