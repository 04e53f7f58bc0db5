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
}

TYPICAL = {
    "GDRO_ImageQualityReward": {"measure": "`all`"},
}

MISTAKES = {
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
