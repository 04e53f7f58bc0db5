"""The hand-written part of the help pages of rewards made in the graph; see ``help_text.py``."""

from __future__ import annotations

ADVICE = {
    "GDRO_RolloutImages": """The way out of GDRO for whatever you like: **GDRO Rollout Images**, then any
nodes, then **GDRO Scores from Graph**. ComfyUI runs the nodes in between once for each picture: a
face counter, an aesthetic predictor of another pack, a mask's area, **GDRO Measure Image**.

All pictures are in memory at once: 640 pictures of 512 x 512 take 2 GB, of 1024 x 1024 8 GB. For more, use
a reward node, which reads them a few at a time.

Nodes that join a list into one batch (Rebatch, Image List to Batch) lose which number belongs to
which picture: one number has to come out for each picture that went in.""",
    "GDRO_MeasureImage": """The smallest node that ends in a number, to try the path with. Put ComfyUI's
*Math Expression* behind it to mix several: `a - abs(b - 0.5)` wants colourful pictures of medium
brightness.

A measure alone is quickly fooled: asked for brightness, a model learns white walls. Mix it with what
the picture should show (GDRO Combine Rewards), or stop early.

Brightness and contrast are of the values as they are stored (sRGB), colourfulness is Hasler and
Suesstrunk's (2003), sharpness is the deviation of the Laplacian and depends on the size.""",
    "GDRO_ScoresFromGraph": """Takes one number for each picture, in the order of **GDRO Rollout
Images**, and makes a reward of them. INT and FLOAT both fit; text becomes a number in ComfyUI's *Convert
Number*. Higher is better: to want less of something, turn it round with *Math Expression* (`-a`).

The reward is for these pictures only. It scores this rollout (or a part of it), alone or in GDRO Combine
Rewards; it cannot judge pictures that come later, so rounds, validation and GDRO Evaluate Alignment refuse
it. To see whether it rose on new prompts, make two more rollouts, one with the LoRA on its `aligned`
input, score both with the same nodes, and connect them to **GDRO Compare Rollouts**, as
`custom_reward_from_graph.json` does.

Look at the size of your numbers: GDRO's temperature is in their units. If the pictures of a group
differ by 0.02, a temperature of 0.05 sees no difference; take about a fifth of the spread inside a group
that GDRO Score Rollout shows, or scale the numbers up.""",
    "GDRO_CompareRollouts": """GDRO Evaluate Alignment makes its own pictures and needs a reward that can
judge them. Where the reward comes from your own nodes, or from your own stars, do the same by hand:

1. a **GDRO Group Rollout** on prompts that were not trained on (4 images each are enough), with a seed of
   its own,
2. the same once more, with the LoRA on its `aligned` input,
3. the same reward for both, and a **GDRO Score Rollout** each,
4. both into this node.

Everything but the LoRA has to be the same, or the node says what differs. The interval is over prompts:
more prompts make it narrower, more images of the same prompts hardly. Of ratings by hand, only the pictures
that are rated in both count.""",
    "GDRO_RatingReward": """What no other reward knows: what *you* like. Press **Run** once: the groups are
made, this node stops what is behind it, and the pictures stand in its gallery (in fact they arrive there
while the rollout still draws). Rate some groups, press **Run** again: nothing is drawn twice, and the
training starts. Rate more later, and Run again: the LoRA is trained on all of it.

Click into the gallery, then use the keys. **Stars**: `1` to `5` rate the picture that is marked and go on
to the next, `0` takes a rating back. **Best and worst**: `B` and `W` on two pictures; the others count as
in between, and the next group comes by itself: the fastest way. **Order**: drag the pictures, or move the
marked one with Shift and the arrows, best first; `Enter` keeps it. In all of them: arrows choose picture
and group, `U` undoes, `S` skips, `Z` shows the picture large. *Blind* hides numbers and scores, so
that they do not sway you. Each rating is written at once into `ratings.jsonl` in the run's folder, never
into the workflow, and it works while the queue is busy.

Not everything has to be rated. Pictures without a rating are left out: they are not trained on, and count
in no mean. A group counts as rated when two of its pictures differ. In GDRO Train LoRA, groups with fewer
rated pictures than its `group_size` are passed over: rate whole groups, or set `group_size` to how many you
rate. dgpo needs whole groups.

**stars** become 0 to 1 (1 star is 0, 5 are 1), so the usual temperature of 0.05 fits; an order or ranks count
evenly from 0 to 1. **order** gives the worst picture of a group 0, the next better one 1, and so on: steps
so large that at temperatures up to 0.1 it is a ranking, exactly so at 0. Use it if your stars are stricter
on some days than on others. To combine it, choose a normalisation in GDRO Combine Rewards.

A few groups move a model, but 24 groups of 8 pictures were too few for a gain that is certain: rate more
prompts rather than more pictures of each. The ratings are for these pictures only, so evaluate with your
eyes (GDRO Generate), with another reward, as `rate_by_hand.json` does, or rate two more rollouts blind and
connect them to GDRO Compare Rollouts.

Without the canvas: `gdro-comfy rate RUN FILE.csv --template` writes a table of all pictures, and `gdro-comfy
rate RUN FILE.csv` reads it back. It takes columns `file`, or `prompt` (or `group`) and `image` (the number
of its file, from 0), and `rating` (1 to 5) or `rank` (1 is the best); commas, semicolons or tabs, UTF-8 or
UTF-16. Every line is checked before anything is written.""",
    "GDRO_CombineRewards": """One wish is easily fooled; two keep each other honest. `ocr` alone may learn
ugly lettering, `ocr` and an aesthetic reward together do not.

**weights**: `1, 0.5` is the weighted mean, divided by the sum of the weights, so that rewards from 0 to 1
stay from 0 to 1 and the training's temperature keeps its meaning. A weight below 0 wants less of something.

**normalisation**: rewards of different size (a score around 20 beside one from 0 to 1) have no common
weight. *per group* compares each picture with the others of its prompt, and gives each reward the
same say in every group; take it first. *whole rollout* keeps that an easy prompt differs less than a hard
one. Normalised rewards are in deviations, so raise the temperature to 0.2 to 0.5. They have no meaning for
single pictures: validation and GDRO Evaluate Alignment want one that is not normalised.

**formula**: names as the summary shows them, a minus written as `_`; two of a name are `vlm` and `vlm2`.
`ocr * composition` wants both; `min(ocr, composition)` the weaker of the two; `ocr + 0.3 * clip(vlm, 0, 0.8)`
stops caring above 0.8.

Connect the rollout, and the summary shows how far the rewards agree inside the groups and which one
decides. A reward that agrees with the combined one by 0.99 has the whole say: give the others more weight.
Each reward scores in turn, and its scores are kept: changing a weight costs nothing.""",
}

TYPICAL = {
    "GDRO_MeasureImage": {"measure": "colourfulness"},
    "GDRO_CombineRewards": {
        "rule": "`weights`",
        "rule.weights": "`1, 0.5`",
        "rule.normalisation": "`per group` for rewards of different size",
        "rule.formula": "`ocr * composition`",
    },
    "GDRO_ScoresFromGraph": {"name": "what you measure: `sharpness`"},
    "GDRO_RatingReward": {"kind": "`stars`", "least_groups": "`4` to look, `20` to train"},
}

MISTAKES = {
    "GDRO_CompareRollouts": [
        (
            "`aligned: it differs from base in its …`",
            "Make both rollouts with the same settings; only the LoRA differs.",
        ),
        (
            "`aligned: it is the same rollout as base`",
            "Connect the LoRA to the `aligned` input of the second GDRO Group Rollout.",
        ),
    ],
    "GDRO_RolloutImages": [
        ("`the list is empty`", "The rollout has no pictures; look at the node before."),
        (
            "Only one number comes back",
            "A node in between takes whole lists or batches. Use one that works on a single picture.",
        ),
    ],
    "GDRO_MeasureImage": [
        (
            "The numbers hardly differ",
            "Measure something that the pictures of one prompt differ in; colourfulness and contrast "
            "mostly do.",
        ),
        (
            "`does not fit`",
            "Choose one of the four.",
        ),
    ],
    "GDRO_ScoresFromGraph": [
        (
            "`… came for … pictures`",
            "Connect the same rollout to both nodes, and let each picture have one number.",
        ),
        (
            "`got … where a number should be`",
            "Text, true and false are no numbers; ComfyUI's Convert Number makes one.",
        ),
        (
            "`reward: its numbers are for the pictures of …`",
            "The reward belongs to another rollout than the one to be scored.",
        ),
        (
            "`reward: … has numbers for the pictures of … only`",
            "Connect another reward to the rounds, validation and evaluation.",
        ),
    ],
    "GDRO_RatingReward": [
        (
            "*12 of 40 groups rated; rate more and press Run*",
            "No failure: the nodes behind wait. Rate until enough groups have two pictures that differ, or "
            "lower `least_groups`.",
        ),
        (
            "`group_size: … images of a prompt are to train together, and no group has more than …`",
            "Rate more pictures of each group, or lower `group_size` in GDRO Train LoRA.",
        ),
        (
            "`reward: … leaves out every picture of these groups`",
            "The rollout that is scored has none of the rated groups: connect the one that was rated.",
        ),
        (
            "`reward: … has numbers for the pictures of … only`",
            "Ratings know no new pictures. Connect another reward to rounds, validation and evaluation.",
        ),
    ],
    "GDRO_CombineRewards": [
        (
            "`weights: there are … for … rewards`",
            "Write as many as there are rewards, or none.",
        ),
        ("`weights: all are 0`", "Give at least one reward a weight."),
        (
            "`formula: there is no reward …`",
            "Take the names from the message; `reward0`, `reward1` always work.",
        ),
        (
            "`formula: … is not allowed in it`",
            "A formula has names, numbers, + - * /, min, max and clip; nothing else is run.",
        ),
        (
            "`reward: … is normalised (…)`",
            "Evaluate with a single reward, or with one that is combined without normalisation.",
        ),
    ],
}
