"""Help pages of the pairwise judge and of the check of rewards; see ``help_text.py``."""

from __future__ import annotations

ADVICE = {
    "GDRO_RewardCheck": """Ten minutes here save a night of training in the wrong direction. Connect a
rollout (24 prompts are enough) and the reward that you are about to train on. The summary says:

| | |
|---|---|
| Spread inside groups | what can be learned; the first temperature to try is a fifth of it |
| One picture is the best alone in | how often the reward decides; groups that are all equal teach nothing |
| Your own ratings | how often it orders two pictures of a group as you do |
| What is cheap to fool | if it follows file size, resolution, brightness, contrast, colours or sharpness |

For the third, rate about 20 pictures in *GDRO runs*, *Rate*, with different stars inside a group; the check
runs again with them. It counts pairs of one group, half for a tie, and says when that is no better than
chance. In the fourth, an agreement of 0.5 or more (or -0.5 or less) is a way to please the reward without
doing what you want: a guard, or GDRO Combine Rewards, closes it.

The pictures are the pairs about which two rewards disagree most: left the choice of the first, right that of
`other` (without one, of image quality). If you would choose the right ones, do not train on the first.

Scores made here are kept, so the training does not make them again.""",
    "GDRO_PairwiseReward": """"Which of these two is better?" is easier to answer than "how good is this, from
1 to 5?": points of one group are often equal, and drift in the course of a training. This judge compares the
pictures of a group two by two. The reward is the share of its comparisons that a picture wins, a tie counting
half, as in [Pref-GRPO](https://arxiv.org/abs/2508.20751).

| Pictures in a group | questions, *balanced* | questions, *both* |
|---|---|---|
| 6 | 15 | 30 |
| 8 | 28 | 56 |
| 16, 7 opponents (8, as an even number is needed) | 64 | 128 |

The summary shows the cost before anything is asked, and the log shows it again before the first question.
Every verdict is saved in `output/gdro/answers/` at once and never asked for twice; after a cancel or a
failure, only the missing ones are requested.

**Position bias.** Many models prefer the first picture (or the second), whatever they see. *balanced* shows
each picture first as often as second, so the bias does not favour any picture, but it still costs certainty.
*both* asks twice and calls a contradiction a tie. The log warns if one place wins three quarters of the
decisions, or if three quarters are ties: then use *both*, or another model. Where the bias is larger than the
differences between the pictures, points are better than pairs (`python benchmarks/pairs.py`).

**Failures.** A pair without a verdict counts for neither picture. If more than half of the pairs have none,
scoring stops, and the verdicts received are kept.

The reward compares the pictures of a group, so its mean is always 0.5. It scores rollouts, also those of
later rounds; validation and GDRO Evaluate Alignment need another reward, such as GDRO VLM Reward with the
same question. Use a temperature of about 0.1. Address, keys and local models are as in GDRO VLM Reward; the
model must be able to see two pictures at once.""",
}

TYPICAL = {
    "GDRO_RewardCheck": {"other": "a reward that you trust more"},
    "GDRO_PairwiseReward": {
        "question": "one thing, and when a picture is better",
        "answered_by.model": "`qwen2.5vl:7b` in Ollama",
        "answered_by.concurrency": "1 for Ollama, 16 for vLLM",
        "answered_by.longest_side": "512",
        "opponents": "`5` to `8`",
        "orders": "`balanced`; `both` for small models",
        "on_refusal": "`leave out`",
    },
}

MISTAKES = {
    "GDRO_RewardCheck": [
        (
            "`reward: … leaves out every picture of these groups`",
            "Connect the rollout that was rated.",
        ),
        (
            "The summary says that your own taste was not compared",
            "Rate about 20 pictures of this run, with different stars inside a group.",
        ),
        (
            "No pictures that disagree are shown, but a best and a worst one",
            "Both rewards want the same. Connect another one to `other`.",
        ),
    ],
    "GDRO_PairwiseReward": [
        (
            "`question: it is empty`",
            "Say what makes a picture the better one.",
        ),
        (
            "`reward: … compares the pictures of a group with each other, so …`",
            "Connect another reward to validation and evaluation.",
        ),
        (
            "`address: nothing answers at … (…)`",
            "Start the server. In a container, `localhost` is the container itself.",
        ),
        (
            "Scoring stops: the judge gave no verdict on most pairs",
            "The model cannot see two pictures, refuses, or answers in another form. Try a larger model, or "
            "raise `max_tokens` for one that thinks first.",
        ),
        (
            "The log says that the judge chose the first picture nearly always",
            "Set `orders` to `both`, or use another model.",
        ),
    ],
}
