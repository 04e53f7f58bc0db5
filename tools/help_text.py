"""The hand-written part of the help pages: advice, typical values, and mistakes with their messages.

What a creator sees in a mistake is the code's own message in backquotes, with … where it depends on
the case; ``tests/test_docs.py`` holds these messages to the code.
"""

from __future__ import annotations

ADVICE = {
    "GDRO_PromptSet": """Use two of these: one for the rollout, one with other prompts for the
evaluation. If they are the same, the figures flatter. Some 100 prompts that the model gets right
*sometimes* teach most: where every picture of a group is equally good, there is nothing to learn.

In a `.jsonl` file each line is an object with `text`, and optionally `include` (what the
composition reward looks for) and `target` (the text that the OCR reward looks for). In a `.csv`
file the first line names the columns. Prompts with the same text count once.

The shipped sets come in pairs, to learn on and to evaluate on: *shapes* (192 and 96), *words* (192 and 64),
*signs* (800 and 200 texts in 20 scenes), *things* (400 and 100 in GenEval's form: single object, two objects,
counting, colours, position, colour of two things). `gdro-comfy prompts things --count 500 --seed 1 --out
more.jsonl` writes more of the last two.""",
    "GDRO_GroupRollout": """Makes the pictures to learn from. They are in `output/gdro/<run
name>-<key>/`. The key stands for model, steps, guidance, size and seed: change one of them and you
get another run, while more prompts or more images per prompt add to this one. You may cancel at any
time; the next Run makes what is missing.

The pictures appear on the node as they are made; click one to see it large. *GDRO runs* in the
sidebar lists all runs, opens them, and deletes those that you no longer want. *Rate* there shows
one group after the other, to be given stars with the keys 1 to 5; every star is saved at once.""",
    "GDRO_OCRReward": """For models that are to write: signs, labels, titles. Put the text into
double quotes in the prompt: `a shop sign that says "OPEN"`. Spaces and capitals do not count. The
bundled model draws signs with a short word: see the workflow *teach_it_to_write*.

Curly quotes, « » and 「 」 do as well. Several quoted parts are each looked for, the reward is their mean.
A prompt file may say the text in `target` instead, without quotes in the prompt. It reads Latin letters with
accents, Chinese and Japanese; Arabic, Hebrew, Thai and emoji are refused before any picture is scored.""",
    "GDRO_CompositionReward": """It asks each picture: is the number right, the colour, the place?
The reward is the mean of the answers, and a number that is nearly right counts in part: `1 - |asked -
found| / asked`. Write prompts such as `two red circles left of one blue square`, or give `include` in a
prompt file, in GenEval's form; then the prompt may be worded as you like.

| Detector | for | needs |
|---|---|---|
| shapes | the bundled model: circles, squares, triangles, stars | nothing |
| OWLv2 | photographs; good at many small things | 0.6 GB, `google/owlv2-base-patch16-ensemble` |
| Grounding DINO | photographs; good at things with long names | 0.9 GB, `IDEA-Research/grounding-dino-base` |

For colours both ask CLIP (`openai/clip-vit-large-patch14`, 1.7 GB) about what is inside a box: red, orange,
yellow, green, blue, purple, pink, brown, black, white, and those that you ask for. Places follow GenEval's
rule: *left of* means that the centres are further apart than a tenth of both widths, and mostly sideways.
GenEval itself uses another detector (Mask2Former), so compare these rewards among themselves only.

In a `.jsonl` file: `{"prompt": "a photo of two dogs", "include": [{"class": "dog", "count": 2}], "exclude":
[{"class": "cat", "count": 1}]}`. A position stands in the later entry: `"position": ["left of", 0]`.""",
    "GDRO_ScoreRollout": """Put it between the rollout and the training. Look at the histogram: if
nearly all pictures have the same reward, choose other prompts or another reward before you train.
"Teach nothing" counts the groups in which all rewards are equal; they are left out of the training.

The node shows the groups with the reward under each picture. Point at a picture to read what the
reward found in it, sort by spread or by reward, and hide groups that differ little.""",
    "GDRO_EvaluateAlignment": """Use it after training, to see whether the LoRA helped. The interval
is over prompts, paired by seed: a gain whose interval holds 0 may be luck. More prompts narrow it
more than more images per prompt. Look at the pictures too: a reward can rise while they get worse.
The slider on the node uncovers base and aligned on the same prompt and seed.

A `guard` is a second reward, put on a scale from 1 to 5. With it comes the corrected score
`reward x (guard - 3) + 0.2`, which falls when the reward was fooled. *Diversity* is how unlike the
pictures of one prompt are (their colours at 8 x 8 pixels): if it falls far, the model draws the same
picture for every seed. `report.html`, in the folder of the training, opens in any browser.""",
}
"""What a node is for and what to know of it, by node id."""

_STEPS = "8 with the bundled model, 10 to 28 with SD3 and FLUX.1-dev, 4 with FLUX.1-schnell"
_GUIDANCE = "1 to 2 with the bundled model, 3.5 with FLUX.1-dev, as you use it with others"

TYPICAL = {
    "GDRO_PromptSet": {"limit": "0, or 64 to 128 for a first try"},
    "GDRO_GroupRollout": {
        "steps": _STEPS,
        "guidance": _GUIDANCE,
        "run_name": "a word for what you try",
    },
    "GDRO_EvaluateAlignment": {
        "steps": "as in the rollout",
        "guidance": "as in the rollout",
        "width": "as in the rollout",
        "height": "as in the rollout",
        "seed": "not the rollout's",
    },
    "GDRO_Generate": {
        "steps": _STEPS,
        "guidance": _GUIDANCE,
        "strength": "0 and 1, to compare",
    },
}
"""What people set, by node id and input; inputs that are not here have only their range and default."""

_SIZE = (
    "`… is not a multiple of … pixels`",
    "Use one of the two sizes that the message names, or 0.",
)
_UNREADABLE = (
    "`… has text this model cannot read: …`",
    "Use letters, digits and punctuation. The bundled model knows English letters only.",
)
_TOO_LONG = (
    "`This model reads …, start and end included: shorten the prompt.`",
    "Shorten that prompt. The bundled model reads 16 tokens.",
)
_OTHER_LORA = (
    "`… is …, this model is …`, or `… was trained for a model of another size …`",
    "Connect the model that the LoRA was trained on.",
)

MISTAKES = {
    "GDRO_PromptSet": [
        (
            "`there are no prompts in it`",
            "Write one prompt on each line. Lines with # do not count.",
        ),
        (
            "`file: … is not there`",
            "Put a `.txt`, `.jsonl` or `.csv` file into ComfyUI's `input` folder, press R, and choose it.",
        ),
        (
            "`file: line … cannot be used: …`",
            "Mend that line; the message says what is wrong in it.",
        ),
        ("`… is not text in UTF-8`", "Save the file again as UTF-8 text."),
        (
            "No error, but the evaluation looks too good",
            "The same prompts are in training and evaluation. Use a held-out set for the second.",
        ),
    ],
    "GDRO_GroupRollout": [
        (
            "`run_name: … cannot be a folder's name here`",
            "Use 1 to 40 letters, digits, spaces, dots, - and _. Start with a letter or digit.",
        ),
        _SIZE,
        _UNREADABLE,
        _TOO_LONG,
        (
            "`output folder: … cannot be written (…)`",
            "Make the folder writable, or start ComfyUI with another output folder.",
        ),
        (
            "`… was made with another … (…, now …)`",
            "The folder's `run.json` was changed. Move the folder away, or choose another `run_name`.",
        ),
        (
            "All images are made again",
            "A setting that the pictures depend on has changed. Set it back to find the old run again.",
        ),
    ],
    "GDRO_OCRReward": [
        (
            "`prompts: … does not say what must be legible`",
            'Put the text into double quotes: `a sign that says "OPEN"`. GDRO Score Rollout says this.',
        ),
        (
            "`reward: RapidOCR cannot be used (…)`",
            "Install it into ComfyUI's Python: `pip install rapidocr onnxruntime`. Then restart ComfyUI.",
        ),
        (
            "`this RapidOCR comes without its models and would download them`",
            "Install version 3.4 or newer: `pip install --upgrade rapidocr`.",
        ),
        (
            "`prompts: … has letters that cannot be read here: …`",
            "Use words in Latin letters, Chinese or Japanese, or ask a model with GDRO VLM Reward.",
        ),
        (
            "Low rewards for text that is plain to see",
            "`line` was chosen for pictures that show more than a line of text. Use `detect`.",
        ),
    ],
    "GDRO_CompositionReward": [
        (
            "`prompts: … is not understood`",
            "The prompt says more than shapes, colours and places. Write it as in the message, or give "
            "`include` in a prompt file. GDRO Score Rollout says this.",
        ),
        ("`prompts: … has no number`", "Say how many: `two circles`, not `circles`."),
        (
            "`detector: … is a …`",
            "The folder holds another network. Choose an OWLv2 or a Grounding DINO.",
        ),
        (
            "`… is not on this machine`",
            "Switch `download` on, or choose local folders. GDRO Score Rollout says this.",
        ),
        (
            "`This reward sees … in …, nothing else.`",
            "Ask for a circle, square, triangle or star in one of the colours that the message names.",
        ),
        (
            "Rewards near 0 for photographs",
            "The detector is `shapes`, which finds flat shapes on a light wall. Choose another.",
        ),
        (
            "Numbers are too high in photographs",
            "Things are seen twice. Raise `threshold`.",
        ),
    ],
    "GDRO_ScoreRollout": [
        (
            "`prompts: …`, at once",
            "The reward cannot judge one of the prompts. Change the prompt set, or the reward.",
        ),
        (
            "The summary says that most groups teach nothing",
            "Use prompts that the model gets right only sometimes, more images, or another reward.",
        ),
        (
            "The histogram is one bar at the top",
            "The model does this already. Ask for something harder.",
        ),
    ],
    "GDRO_EvaluateAlignment": [
        (
            "`prompts: … is too few`",
            "Evaluate on 2 prompts or more; on 50 or more to see a small gain.",
        ),
        (
            "`aligned: this LoRA was trained for another model`",
            "Connect the model that was trained.",
        ),
        _SIZE,
        (
            "`prompts: …`, at once",
            "The model or the reward cannot read one of the prompts. The message says which.",
        ),
        (
            "The interval holds 0",
            "The gain may be luck. Use more prompts, or train further.",
        ),
        (
            "The gain is exactly 0",
            "`strength` is 0.",
        ),
    ],
    "GDRO_Generate": [
        ("`prompt: it is empty`", "Say what the image should show."),
        _SIZE,
        _UNREADABLE,
        _TOO_LONG,
        _OTHER_LORA,
        (
            "The pictures of base and aligned are the same",
            "`strength` is 0, or nothing is connected to `aligned`.",
        ),
    ],
}
"""What goes wrong, by node id: what the creator sees, and what to do."""
