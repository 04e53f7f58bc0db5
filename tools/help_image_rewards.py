"""Help pages of rewards that look at the image alone, the hand-written part; see ``help_text.py``."""

from __future__ import annotations

ADVICE = {
    "GDRO_ImageQualityReward": """What training itself can damage: colours that burn, a grid of
fine dots, noise, blur. Connect this reward to `guard` on GDRO Train LoRA and GDRO Evaluate Alignment, next to
the reward that says what you want: the training then stops where your reward rises only because the pictures
are ruined. It takes a few thousandths of a second per picture, and needs no weights and no prompt.

The reward is the mean of seven scores. Each score is 1 for an undamaged picture, 0.5 at the value in the
table, and approaches 0. GDRO Score Rollout shows the values of every picture.

| Measure | value | score 0.5 at |
|---|---|---|
| blur | 0 for sharp contours to 1 for none | 0.25 |
| noise | grey levels (of 255), where the picture is smoothest | 8 |
| blockiness | grey levels by which the borders of 8-pixel blocks stand out (JPEG) | 1 |
| grid | grey levels of the pattern that repeats every 16 pixels: a checkerboard, seams | 1 |
| high frequency | 0 up to natural texture, 3 for white noise, more for a checkerboard | 1 |
| saturation | how far colours exceed half of the strongest ones, 0 to 0.5 | 0.1 |
| clipping | the part of the colour values at 0 or 255 | 0.25 |

Compare pictures of the same prompts and of one size. Texture counts as noise where it fills three quarters
of a picture; pure colours and white walls count as saturated and clipped although you may want them. In a
comparison of the same prompts before and after, such contents cancel out.

As the only reward it teaches smooth, plain pictures, and choosing one measure is even easier to please.""",
    "GDRO_SimilarityReward": """"More like these." Connect one or more reference pictures: *Load Image*
for one, *Batch Images* or a list for several (eight of one look are better than one, whose subject would be
learned too).

| Comparison | sees | needs |
|---|---|---|
| palette | colours and their amounts, not their places | nothing |
| looks (DINOv2) | style, materials, forms | 0.35 GB, `facebook/dinov2-base` |
| content (SigLIP 2) | what is shown | 1.5 GB, `google/siglip2-base-patch16-224` |
| content (CLIP) | what is shown | 1.7 GB, `openai/clip-vit-large-patch14` |
| local folder | a DINOv2, DINOv3, CLIP or SigLIP of yours | a folder in `models/gdro` |

The similarity of palettes is 1 for the same colours and 0.5 where colours have to move by 10, on average,
for one palette to become the other (black and white are 100 apart, 2 is just noticed; OKLab). That of
networks is (1 + cosine) / 2, so unrelated pictures have about 0.5 to 0.6. DINO and CLIP see the central
square, SigLIP the whole picture squeezed to a square.

| Goal | reward |
|---|---|
| like these | the similarity: the mean over the references, or that to the nearest |
| not like these | 1 minus the similarity to the nearest: a look, a person or a brand to stay away from |
| like, but no copy | 1 from `at_least` to `at_most`, less outside; with the nearest reference |

A look is easily learned at the cost of the prompt: alone, this reward is content with a copy of a reference
for every prompt. Combine it with a reward for the prompt and give that a floor in GDRO Combine Rewards, as
in `my_style.json`. GDRO Score Rollout shows the similarity of every picture: look there before you choose a
band.

Transparent parts of a reference do not count in a palette, and are white for networks. LPIPS and DreamSim are
not offered: their weights exist only as pickles, which can run any code.""",
}

TYPICAL = {
    "GDRO_ImageQualityReward": {"measure": "`all`"},
    "GDRO_SimilarityReward": {
        "compare": "`palette` to try it, `looks` for a style",
        "compare.download": "on for the first run",
        "goal": "`like these`",
        "goal.several": "`mean` for a look, `nearest` for several motifs",
        "goal.at_least": "a little above what the base reaches",
        "goal.at_most": "a little below what a copy reaches",
    },
}

MISTAKES = {
    "GDRO_SimilarityReward": [
        (
            "`references: image … …`",
            "That reference is too small, transparent throughout or broken. Take it out of the batch or "
            "list.",
        ),
        (
            "`goal: a band from … to … holds no similarity`",
            "Set `at_least` lower than `at_most`.",
        ),
        (
            "`… is not on this machine`",
            "Turn `download` on, or choose *local folder* or *palette*. GDRO Score Rollout shows this "
            "message.",
        ),
        (
            "`… is a network of the kind …, which does not describe images`",
            "The folder holds another network. Choose a DINOv2, DINOv3, CLIP or SigLIP.",
        ),
        (
            "All pictures show the same thing",
            "Only the references are rewarded. Add a reward for the prompt with a floor, use more "
            "references, or *like, but no copy*.",
        ),
        (
            "The rewards of a group hardly differ",
            "This is normal for networks. Lower `temperature` in GDRO Train LoRA, or choose the "
            "normalisation *per group* in GDRO Combine Rewards.",
        ),
    ],
    "GDRO_ImageQualityReward": [
        (
            "`measure: there is no …`",
            "Choose one from the list.",
        ),
        (
            "A score stops with `… pixels, and 32 a side are the least`",
            "Smaller pictures hold too little to measure. Make them larger.",
        ),
        (
            "Pictures of pure colours or on white get low scores",
            "Saturation and clipping belong to what they show. Choose *grid* or *noise*, or combine several "
            "of these nodes with GDRO Combine Rewards.",
        ),
    ],
}
