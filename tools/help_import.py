"""The hand-written part of the help pages of what comes from elsewhere; see ``help_text.py``."""

from __future__ import annotations

ADVICE = {
    "GDRO_ImportGroups": """GDRO learns from groups of pictures of the same prompt, whoever made them: another
sampler, another program, a camera. Put a folder into ComfyUI's `input` folder:

```
input/taste/
    red bicycle/    prompt.txt   1.png   2.png   3.png   4.png
    old harbour/    prompt.txt   1.png   2.png   3.png   4.png
```

**Order.** Where the names are whole numbers, 1 is the best; or names end in `_w` (better) and `_l`
(worse). Equal numbers are a tie. The output `reward` then holds that order, from 1 to 0, and no judge is
needed: put it into GDRO Score Rollout and train with a temperature of 0, which looks at the order alone.
Where a prompt's names give no order, score the groups with any other reward.

**Prompts.** *caption files*: `prompt.txt` in the sub-folder, or a `.txt` with the name of each picture;
all of one sub-folder have to agree. *PNG metadata*: the text of the CLIPTextEncode that leads to the
samplers; where samplers have different prompts, or nodes mix them, it says so. *folder names*: with `_`
for a space. *typed*: a line for each sub-folder. In a folder without sub-folders the pictures of the
same prompt are a group, so the files of ComfyUI's own Save Image can be imported as they lie, from a
folder in `output` too (*NAME [output]*).

**Pictures.** PNG, JPEG, WebP, BMP, TIFF and GIF. Each is scaled until it covers the size, and what
stands out is cut off on both sides alike. Transparent parts become white, 16 bits 8, EXIF's turn is
done. Pictures that move, are damaged, would be enlarged more than 4 times, or come twice are refused,
all in one message, before anything is encoded. Links are not followed.

**Groups** have one size. `images_per_prompt` 0 cuts all to the smallest; a number leaves smaller groups
out. Cutting goes evenly through the order and keeps the best and the worst. Use 4 or more; 2 is
unsteady.

What is encoded stays: a cancelled import goes on, the same again is there at once. Other pictures, or
another order, make another run, which is encoded anew.

Pictures that the model would hardly make itself teach less than its own, and pull it further away: watch
the pictures while it trains.""",
    "GDRO_InstalledReward": """For what no other node measures, in Python. Code comes with `pip install`,
which you do yourself, and never with a workflow or from a file that a workflow names. The package is
imported when this node runs, with all rights of ComfyUI: install only what you trust.

`example_packages/gdro_reward_warmth` in the folder of this pack is such a package of 40 lines, with its test.
Copy it, change the names and `score`, then `pip install ./my_reward` with ComfyUI's Python, and restart.

The settings are those that the package names. A scored rollout keeps its scores as long as package,
version and settings stay the same; another version scores anew. On the console `gdro-comfy rewards`
lists what is there.

Without Python, GDRO Scores from Graph makes a reward of any nodes, and GDRO VLM Reward of a question.""",
}

TYPICAL = {
    "GDRO_ImportGroups": {
        "source.folder": "`taste`",
        "images_per_prompt": "0, or 4 to 16",
        "width": "0",
        "height": "0",
        "steps": "as you use the model",
        "guidance": "3.5 with FLUX.1-dev, else 1",
        "run_name": "a word for what you try",
    },
    "GDRO_InstalledReward": {
        "reward": "`warmth (gdro-reward-warmth)`",
        "settings": "`strength = 4`",
    },
}

MISTAKES = {
    "GDRO_ImportGroups": [
        (
            "`source: something is wrong with the pictures or their prompts`",
            "The message lists each file and what is wrong with it. Mend or remove them, and run again.",
        ),
        (
            "`folder: … is not among the folders of pictures`",
            "Put the folder into ComfyUI's `input` folder, press R, and choose it.",
        ),
        (
            "`folder: there are no pictures in … or its sub-folders`",
            "Put the pictures of each prompt into a sub-folder of it.",
        ),
        (
            "`images_per_prompt: no group has … pictures, the largest has …`",
            "Use a smaller number, or 0.",
        ),
        (
            "`prompt: … prompts came for … batches of images`",
            "Connect a list with a prompt for each batch, or type one prompt for all.",
        ),
        (
            "The reward says that names give no order",
            "In every sub-folder, name all pictures 1, 2, 3, ... or end all names in `_w` and `_l`.",
        ),
        (
            "`… is not a multiple of … pixels`",
            "Use one of the two sizes that the message names, or 0.",
        ),
    ],
    "GDRO_InstalledReward": [
        (
            "`reward: … is not among the installed rewards`",
            "Install the package that has it: `pip install NAME` with ComfyUI's Python, then restart.",
        ),
        (
            "`reward: several packages offer …`",
            "Choose it from the list again, which names the package.",
        ),
        (
            "`reward: … cannot be imported (…)`",
            "The package is broken, or needs another library. Update it, or ask its author.",
        ),
        (
            "`reward: … is no reward: …`",
            "The package does not keep to the contract. Its author finds it in the README of the example.",
        ),
        (
            "`settings: … has no setting …`",
            "Use a name that the message lists.",
        ),
        (
            "`settings: … refuses them (…)`",
            "The package says what does not fit. Change that setting.",
        ),
        (
            "`settings: line …, …, …. Write name = value.`",
            "One setting a line, each with an equals sign; or a whole JSON object in `{}`.",
        ),
    ],
}
