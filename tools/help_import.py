"""Help pages of imported groups and installed rewards, the hand-written part; see ``help_text.py``."""

from __future__ import annotations

ADVICE = {
    "GDRO_ImportGroups": """GDRO can learn from any group of pictures of the same prompt, wherever they come
from: another sampler, another program, a camera. Put a folder into ComfyUI's `input` folder:

```
input/taste/
    red bicycle/    prompt.txt   1.png   2.png   3.png   4.png
    old harbour/    prompt.txt   1.png   2.png   3.png   4.png
```

**Order.** If the file names are whole numbers, 1 is the best; names can also end in `_w` (better) and `_l`
(worse). Equal numbers are a tie. The `reward` output then holds that order, from 1 to 0, and you need no
judge: connect it to GDRO Score Rollout and train with a temperature of 0, which uses the order alone. If a
prompt's file names give no order, score the groups with any other reward.

Numbers with zeros before them, such as `00001.png`, count the pictures of a program and give no order. An
empty file `ranking.txt` in the folder makes them one.

**Prompts.** *caption files*: `prompt.txt` in the sub-folder, or a `.txt` file with the name of each picture;
all captions in a sub-folder must agree. *PNG metadata*: the text of the CLIPTextEncode node that leads to the
samplers; if samplers have different prompts, or other nodes mix them, a message says so. *folder names*: `_`
stands for a space. *typed*: one line for each sub-folder. In a folder without sub-folders, pictures with the
same prompt form a group, so you can import the files of ComfyUI's own Save Image as they are, also from a
folder in `output` (*NAME [output]*).

| Metadata | |
|---|---|
| PNG, WebP and JPEG with ComfyUI's graph | read |
| CLIPTextEncode, also for SDXL, SD3, FLUX, HiDream; text nodes of ComfyUI, switches, ControlNet | followed |
| Lumina 2, whose encoder adds a text of its own | refused |
| wildcards, captions, combined or emptied prompts, any unknown node | refused with its name |
| pictures that started from another picture (img2img, inpainting, Redux, Kontext) | refused |
| comments, and choices in braces, in the text | refused |
| A1111, Forge, InvokeAI, NovelAI | refused; use caption files |

**Pictures.** PNG, JPEG, WebP, BMP, TIFF and GIF. Each picture is scaled until it covers the size, and the
excess is cropped equally on both sides. Transparent parts become white, 16 bits become 8, and the EXIF
rotation is applied. Animated, damaged and duplicate pictures, and those that would be enlarged more than 4
times, are refused before anything is encoded, all in one message. Links are not followed.

Other formats (AVIF, HEIC, JPEG XL), folders of the system and sub-folders without pictures are left out, and
the summary counts them. Pictures that lie deeper than one sub-folder are a problem that is named.

**Groups** all have the same size. With `images_per_prompt` at 0, all groups are cut to the smallest; with a
number, smaller groups are left out. The cut picks evenly from the order and keeps the best and the worst. Use
4 or more; 2 is unstable.

Encoded pictures are kept: a cancelled import resumes, and repeating an import takes no time. Other pictures,
or another order, make a new run, which is encoded again.

Pictures unlike the model's own teach it less, and pull it further from its base: watch the pictures during
training.""",
    "GDRO_InstalledReward": """For what no other node measures, in Python. You install the code yourself with
`pip install`; it never comes with a workflow, or from a file that a workflow names. The package is imported
when this node runs, with all of ComfyUI's rights: install only what you trust.

`example_packages/gdro_reward_warmth` in this pack's folder is such a package: 40 lines, with a test. Copy it,
change the names and `score`, run `pip install ./my_reward` with ComfyUI's Python, and restart.

Each package defines its own settings. A scored rollout keeps its scores as long as the package, its version
and the settings stay the same; another version scores again. On the command line, `gdro-comfy rewards` lists
the installed rewards.

Without Python, GDRO Scores from Graph makes a reward from any nodes, and GDRO VLM Reward from a question.""",
}

TYPICAL = {
    "GDRO_ImportGroups": {
        "source.folder": "`taste`",
        "images_per_prompt": "0, or 4 to 16",
        "width": "0",
        "height": "0",
        "steps": "as you normally use the model",
        "guidance": "3.5 with FLUX.1-dev, otherwise 1",
        "run_name": "a word for what you are trying",
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
            "The message lists each file and its problem. Fix or remove the files, and run again.",
        ),
        (
            "`folder: … is not among the folders of pictures`",
            "Put the folder into ComfyUI's `input` folder, press R, and choose it.",
        ),
        (
            "`folder: there are no pictures in … or its sub-folders`",
            "Put the pictures of each prompt into their own sub-folder.",
        ),
        (
            "`images_per_prompt: no group has … pictures, the largest has …`",
            "Use a smaller number, or 0.",
        ),
        (
            "`prompt: … prompts came for … batches of images`",
            "Connect a list with one prompt per batch, or type one prompt for all.",
        ),
        (
            "The reward says that the names give no order",
            "In each sub-folder, name all pictures 1, 2, 3, ... or end all names in `_w` or `_l`.",
        ),
        (
            "`… is not a multiple of … pixels`",
            "Use one of the two sizes in the message, or 0.",
        ),
    ],
    "GDRO_InstalledReward": [
        (
            "`reward: … is not among the installed rewards`",
            "Install the package that provides it: `pip install NAME` with ComfyUI's Python, then "
            "restart.",
        ),
        (
            "`reward: several packages offer …`",
            "Choose it from the list again; the list names the package.",
        ),
        (
            "`reward: … cannot be imported (…)`",
            "The package is broken, or another library is missing. Update it, or ask its author.",
        ),
        (
            "`reward: … is not a reward: …`",
            "The package does not keep to the contract. Its author can find the contract in the "
            "README of the example.",
        ),
        (
            "`settings: … has no setting …`",
            "Use a name that the message lists.",
        ),
        (
            "`settings: … refuses them (…)`",
            "The package says what is wrong. Change that setting.",
        ),
        (
            "`settings: line …, …, …. Write name = value.`",
            "Write one setting per line, each with an equals sign, or a whole JSON object in `{}`.",
        ),
    ],
}
