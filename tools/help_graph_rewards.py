"""Help pages of rewards that are made in the graph, the hand-written part; see ``help_text.py``."""

from __future__ import annotations

ADVICE = {
    "GDRO_RolloutImages": """The way from GDRO to any other node: **GDRO Rollout Images**, then any nodes,
then **GDRO Scores from Graph**. ComfyUI runs the nodes in between once for each picture: a face counter, an
aesthetic predictor from another pack, a mask's area, **GDRO Measure Image**.

All pictures are in memory at once: 640 pictures of 512 x 512 take 2 GB, of 1024 x 1024 8 GB. For more, use a
reward node, which reads a few at a time.

Nodes that join a list into one batch (Rebatch, Image List to Batch) lose track of which number belongs to
which picture: every picture needs a number of its own.""",
    "GDRO_MeasureImage": """The simplest node that ends in a number, to try this path. Put ComfyUI's *Math
Expression* after it to combine several: `a - abs(b - 0.5)` asks for colourful pictures of medium brightness.

A measure alone is easily fooled: asked for brightness, a model learns white walls. Combine it with a reward
for what the picture should show (GDRO Combine Rewards), or stop early.

Brightness and contrast use the values as stored (sRGB). Colourfulness is Hasler and Suesstrunk's (2003).
Sharpness is the standard deviation of the Laplacian, and depends on the picture's size.""",
    "GDRO_ScoresFromGraph": """Takes one number for each picture, in the order of **GDRO Rollout Images**, and
makes a reward from them. INT and FLOAT both work; ComfyUI's *Convert Number* turns text into a number. Higher
is better: to ask for less of something, negate it with *Math Expression* (`-a`).

The reward is for these pictures only. It scores this rollout (or a part of it), alone or in GDRO Combine
Rewards. It cannot judge later pictures, so rounds, validation and GDRO Evaluate Alignment refuse it. To see
whether it rose on new prompts, make two more rollouts, one with the LoRA on its `aligned` input, score both
with the same nodes, and connect them to **GDRO Compare Rollouts**, as in `custom_reward_from_graph.json`.

Check the scale of your numbers: GDRO's temperature is in the same units. If the pictures of a group differ by
0.02, a temperature of 0.05 sees no difference. Use about a fifth of the spread within a group that GDRO Score
Rollout shows, or scale the numbers up.""",
    "GDRO_CompareRollouts": """GDRO Evaluate Alignment generates its own pictures and needs a reward that can
judge them. If the reward comes from your own nodes or your own ratings, do the same by hand:

1. a **GDRO Group Rollout** on prompts that were not trained on (4 images each are enough), with its own seed,
2. the same again, with the LoRA on its `aligned` input,
3. the same reward for both, and a **GDRO Score Rollout** for each,
4. both into this node.

Everything but the LoRA must be the same; otherwise the node says what differs. The interval is over prompts:
more prompts narrow it, more images of the same prompts hardly do. With ratings by hand, only the pictures
that are rated in both count.

On the node, each pair of pictures is under a slider or side by side, with one zoom for both: `+` and `-`, and drag
to look around. `↑` and `↓` go through the pairs, `Z` opens them in a window. The list below says by which rule the
first pair is chosen: *Typical first* begins with the gain nearest to the mean. Each pair says whether it got better
or worse.""",
    "GDRO_RatingReward": """For what no other reward knows: what *you* like. Press **Run** once: the groups
are generated, this node stops the nodes after it, and its gallery shows the pictures, which arrive there even
while the rollout is running. Rate some groups and press **Run** again: nothing is generated twice, and the
training starts. Rate more later and Run again: the LoRA is trained on all of it.

Click into the gallery, then use the keys. **Stars**: `1` to `5` rate the selected picture and move to the
next, `0` removes a rating. **Best and worst**: press `B` and `W` on two pictures; the others count as in
between, and the next group follows by itself. This is the fastest way. **Order**: drag the pictures, or move
the selected one with Shift and the arrow keys, best first; `Enter` saves the order. In all of them, the arrow
keys select picture and group, `U` undoes, `S` skips, and `Z` enlarges the picture. *Blind* hides numbers and
scores, so that they do not influence you. Each rating is saved at once in `ratings.jsonl` in the run's
folder, never in the workflow. You can rate while the queue is busy.

You do not have to rate everything. Pictures without a rating are left out of the training and of every mean.
A group counts as rated if two of its pictures differ. GDRO Train LoRA skips groups with fewer rated pictures
than its `group_size`: rate whole groups, or set `group_size` to the number that you rate. dgpo needs whole
groups.

**stars** become 0 to 1 (1 star is 0, 5 are 1), so the usual temperature of 0.05 fits; an order or ranks are
spread evenly from 0 to 1. **order** gives the worst picture of a group 0, the next better one 1, and so on.
These steps are so large that it acts as a ranking at temperatures up to 0.1, and exactly so at 0. Use it if
your stars are stricter on some days than on others. To combine it, choose a normalisation in GDRO Combine
Rewards.

A few groups change a model, but 24 groups of 8 pictures were too few for a certain gain: rate more prompts
rather than more pictures of each. The ratings are for these pictures only, so evaluate by eye (GDRO
Generate), with another reward, as in `rate_by_hand.json`, or rate two more rollouts blind and connect them to
GDRO Compare Rollouts.

Without the canvas: `gdro-comfy rate RUN FILE.csv --template` writes a table of all pictures, and `gdro-comfy
rate RUN FILE.csv` reads it back. The columns are `file`, or `prompt` (or `group`) and `image` (the number of
its file, from 0), and `rating` (1 to 5) or `rank` (1 is the best), separated by commas, semicolons or tabs,
in UTF-8 or UTF-16. Every line is checked before anything is written.""",
    "GDRO_CombineRewards": """One reward is easily fooled; two keep each other honest. `ocr` alone may learn
ugly lettering, `ocr` and an aesthetic reward together do not.

**weights**: `1, 0.5` is the weighted mean, divided by the sum of the weights, so that rewards from 0 to 1
stay from 0 to 1 and the training's temperature keeps its meaning. A weight below 0 asks for less of
something.

**normalisation**: rewards of different scales (one around 20 and one from 0 to 1) cannot share weights. *per
group* compares each picture with the others of its prompt, and gives each reward the same influence in every
group; try it first. *whole rollout* preserves that easy prompts differ less than hard ones. Normalised
rewards are in standard deviations, so raise the temperature to 0.2 to 0.5. They have no meaning for single
pictures: validation and GDRO Evaluate Alignment need a reward that is not normalised.

**formula**: use the names that the summary shows, with `_` for a minus; two rewards of the same name are
`vlm` and `vlm2`. `ocr * composition` wants both, `min(ocr, composition)` the weaker of the two, and `ocr +
0.3 * clip(vlm, 0, 0.8)` ignores what exceeds 0.8.

**pareto**: no weights and no scales. A picture beats another if it is at least as good in every reward and
better in one; its value is 0.5, plus half of the share of its group that it beats, minus half of the share
that beats it. Like a normalised reward, it compares the pictures of a group and has no meaning for single
ones. Use a temperature of about 0.1.

**floors**, with any rule: "at least this, and then that". `composition 0.8` with the weights `1, 0` means
that only the first reward decides among pictures whose composition is 0.8 or more: they get 0.5 to 1. All
others get less than 0.5, the more the nearer they are to the floor. Where no picture of a group reaches it,
the nearest one is therefore the best; the summary says how often that is so. Several floors: `composition
0.8, ocr 0.5`; all must be reached.

The same reward connected twice counts twice in weights and once in *pareto*; the summary says so.

Connect the rollout, and the summary shows how far the rewards agree within the groups and which one decides.
A reward that agrees with the combined one by 0.99 decides alone: give the others more weight. Each reward
scores in turn and its scores are kept, so changing a weight costs nothing.""",
}

TYPICAL = {
    "GDRO_MeasureImage": {"measure": "colourfulness"},
    "GDRO_CombineRewards": {
        "rule": "`weights`",
        "rule.weights": "`1, 0.5`",
        "rule.normalisation": "`per group` for rewards of different scales",
        "rule.formula": "`ocr * composition`",
        "floors": "empty, or `composition 0.8`",
    },
    "GDRO_ScoresFromGraph": {"name": "what you measure: `sharpness`"},
    "GDRO_RatingReward": {"kind": "`stars`", "least_groups": "`4` to try it, `20` to train"},
}

MISTAKES = {
    "GDRO_CompareRollouts": [
        (
            "`aligned: it differs from base in its …`",
            "Make both rollouts with the same settings, except for the LoRA.",
        ),
        (
            "`aligned: it is the same rollout as base`",
            "Connect the LoRA to the `aligned` input of the second GDRO Group Rollout.",
        ),
    ],
    "GDRO_RolloutImages": [
        ("`the list is empty`", "The rollout has no pictures. Check the node before this one."),
        (
            "Only one number comes back",
            "A node in between takes whole lists or batches. Use one that takes a single picture.",
        ),
    ],
    "GDRO_MeasureImage": [
        (
            "The numbers hardly differ",
            "Measure something in which the pictures of one prompt differ; colourfulness and "
            "contrast usually work.",
        ),
        (
            "`does not fit`",
            "Choose one of the four.",
        ),
    ],
    "GDRO_ScoresFromGraph": [
        (
            "`… came for … pictures`",
            "Connect the same rollout to both nodes, and produce one number for each picture.",
        ),
        (
            "`got … where a number should be`",
            "Text, true and false are not numbers; ComfyUI's Convert Number makes one.",
        ),
        (
            "`reward: its numbers are for the pictures of …`",
            "The reward belongs to a rollout other than the one being scored.",
        ),
        (
            "`reward: … has numbers for the pictures of … only`",
            "Connect another reward to rounds, validation and evaluation.",
        ),
    ],
    "GDRO_RatingReward": [
        (
            "*12 of 40 groups rated; rate more and press Run*",
            "Not an error: the nodes after this one wait. Rate until enough groups have two "
            "pictures that differ, or lower `least_groups`.",
        ),
        (
            "`group_size: … images of a prompt are to train together, and no group has more than …`",
            "Rate more pictures of each group, or lower `group_size` in GDRO Train LoRA.",
        ),
        (
            "`reward: … leaves out every picture of these groups`",
            "The rollout being scored has none of the rated groups. Connect the one that was "
            "rated.",
        ),
        (
            "`reward: … has numbers for the pictures of … only`",
            "Ratings cannot judge new pictures. Connect another reward to rounds, validation and "
            "evaluation.",
        ),
    ],
    "GDRO_CombineRewards": [
        (
            "`weights: there are … for … rewards`",
            "Write as many weights as there are rewards, or none.",
        ),
        ("`weights: all are 0`", "Give at least one reward a weight."),
        (
            "`floors: … is no reward with a number`",
            "Write a name and a number: `composition 0.8`.",
        ),
        (
            "`floors: there is no reward …`",
            "Use the names in the message; `reward0` and `reward1` always work.",
        ),
        (
            "`floors: … is reached by … image`",
            "Choose a floor inside the reward's range, which the message gives.",
        ),
        (
            "`formula: there is no reward …`",
            "Use the names in the message; `reward0` and `reward1` always work.",
        ),
        (
            "`formula: … is not allowed in it`",
            "A formula contains names, numbers, + - * /, min, max and clip; nothing else is run.",
        ),
        (
            "`reward: … is …, so it compares the pictures of a rollout with each other only`",
            "Evaluate with a single reward, or with a combination without normalisation and not by *pareto*.",
        ),
    ],
}
