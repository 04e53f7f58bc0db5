"""The hand-written part of the help pages: advice, typical values, and mistakes with their remedies.

A mistake quotes the code's message in backquotes, with … for the parts that vary; ``tests/pack/test_docs.py``
checks that the code has this message.
"""

from __future__ import annotations

ADVICE = {
    "GDRO_PromptSet": """Use two of these nodes: one for the rollout, and one with other prompts for the
evaluation. With the same prompts in both, the results look better than they are. About 100 prompts that the
model gets right only *sometimes* teach it most: if all pictures of a group are equally good, there is nothing
to learn.

In a `.jsonl` file, each line is an object with `text`, and optionally `include` (what the composition reward
looks for) and `target` (the text that the OCR reward looks for). In a `.csv` file, the first line names the
columns. Prompts with the same text count once.

| Prompt file | |
|---|---|
| lines of `.txt` | a prompt each; those that begin with # are left out and counted |
| columns of `.csv` | between commas, semicolons or tabs; one is `prompt`, `prompts`, `text` or `caption` |
| lines of `.jsonl` | objects or plain prompts, also as one list |
| UTF-8 and UTF-16 | read; other encodings are refused |
| a comma in text that is not quoted, a quote that is not closed | refused with the line |
| options of A1111, kohya or Midjourney on many lines | refused with the line |
| more than 10,000 prompts | `limit` draws so many at random |
| weights, escapes, embeddings and choices of ComfyUI | words of the prompt, and the log says so |

Signs that a text encoder does not have (é, emoji or Chinese with T5) are counted in the log; a prompt of
which nothing is left is refused. To train Chinese signs, use a model whose text encoder reads Chinese, such
as Qwen-Image or Z-Image through GDRO Model from ComfyUI: T5 and CLIP do not.

The shipped sets come in pairs, one to train and one to evaluate on: *shapes* (192 and 96 prompts), *words*
(192 and 64), *signs* (800 and 200 texts in 20 scenes), *things* (400 and 100 in GenEval's form: single
object, two objects, counting, colours, position, colours of two things). `gdro-comfy prompts things --count
500 --seed 1 --out more.jsonl` writes more of the last two.""",
    "GDRO_GroupRollout": """Generates the pictures to learn from, in `output/gdro/<run name>-<key>/`. The key
stands for the model, steps, guidance, size and seed: if you change one of them, you get a new run. More
prompts or more images per prompt are added to the same run. You can cancel at any time; the next Run
generates what is missing.

Pictures appear on the node as they are generated; click one to enlarge it. *GDRO runs* in the sidebar lists
all runs, where you can open and delete them. *Rate* there shows one group after another, for you to rate with
the keys 1 to 5; every rating is saved at once.""",
    "GDRO_OCRReward": """For models that should write: signs, labels, titles. Put the text into double quotes
in the prompt: `a shop sign that says "OPEN"`. Spaces and capitals do not count. The bundled model draws signs
with a short word; see the workflow *teach_it_to_write*.

Curly quotes, « » and 「 」 work too. If the prompt quotes several parts, each is looked for, and the reward
is their mean. In a prompt file, `target` can give the text instead, without quotes in the prompt. The reward
reads Latin letters with accents, Chinese and Japanese; Arabic, Hebrew, Thai and emoji are refused before any
picture is scored.

| In the prompt | |
|---|---|
| an inch mark, as in `a 12" record with the word "LOVE"` | no quote: `LOVE` |
| a backslash before a quote | left out |
| a quote inside a quote | part of the outer one |
| typographic ’ “ ” … – and full-width signs | the same as their plain forms |
| accents | count |
| a quote that is not closed, single quotes | no text to look for: refused |

If at most a tenth of the prompts has no text that can be read, these are left out and counted.""",
    "GDRO_CompositionReward": """It checks the number, colour and place of things in each picture. The reward
is the mean of these checks, and a number that is nearly right counts in part: `1 - |asked - found| / asked`.
Write prompts such as `two red circles left of one blue square`, or give `include` in a prompt file, in
GenEval's form; the prompt itself can then be worded freely.

| Plain prompt | |
|---|---|
| things such as `two red apples left of a cup`, `twelve eggs` | read; numbers in words to twenty |
| two colours on one thing: `a black and white cat` | refused |
| no number: `a dog and cats` | refused |
| a verb: `two girls cooked dinner` | refused |
| colours that are not told apart: `a gray cat`, `a dark blue car` | refused |
| words of style: `a dog, masterpiece` | refused |

| Detector | for | needs |
|---|---|---|
| shapes | the bundled model: circles, squares, triangles, stars | nothing |
| OWLv2 | photographs; good at many small things | 0.6 GB, `google/owlv2-base-patch16-ensemble` |
| Grounding DINO | photographs; good at things with long names | 0.9 GB, `IDEA-Research/grounding-dino-base` |

For colours, both detectors ask CLIP (`openai/clip-vit-large-patch14`, 1.7 GB) about the inside of each box:
red, orange, yellow, green, blue, purple, pink, brown, black, white, and the colours in your prompts. Places
follow GenEval's rule: *left of* means that the centres are further apart than a tenth of both widths, and
mostly sideways. GenEval itself uses another detector (Mask2Former), so compare these rewards only with each
other.

In a `.jsonl` file: `{"prompt": "a photo of two dogs", "include": [{"class": "dog", "count": 2}], "exclude":
[{"class": "cat", "count": 1}]}`. A position belongs to the later entry: `"position": ["left of", 0]`.""",
    "GDRO_ScoreRollout": """Put it between the rollout and the training. Look at the histogram: if nearly all
pictures have the same reward, change the prompts or the reward before you train. "Teach nothing" counts the
groups in which all rewards are equal; the training leaves them out.

The node shows the groups with the reward below each picture. Point at a picture to see what the reward found
in it, sort by spread or by reward, and hide groups that differ little.""",
    "GDRO_EvaluateAlignment": """Use it after training to see whether the LoRA helped. The interval is over
prompts, paired by seed: if it contains 0, the gain may be luck. More prompts narrow it more than more images
per prompt. Look at the pictures too: a reward can rise while they get worse. The slider on the node compares
base and aligned on the same prompt and seed.

On the node, each pair of pictures is under a slider or side by side, with one zoom for both: `+` and `-`, and drag
to look around. `↑` and `↓` go through the pairs, `Z` opens them in a window. The list below says by which rule the
first pair is chosen: *Typical first* begins with the gain nearest to the mean. Each pair says whether it got better
or worse.

An interval is given from 8 prompts on, and not where few prompts changed, or a few much more than the others:
the table then says so.

A `guard` is a second reward, mapped to a scale from 1 to 5. It adds the corrected score `reward x (guard - 3)
+ 0.2`, which falls if the reward was fooled. *Diversity* is how much the pictures of one prompt differ (in
their colours at 8 x 8 pixels): if it falls far, the model draws the same picture for every seed.
`report.html`, in the training's folder, opens in any browser.""",
}
"""What a node is for and how to use it, by node id."""

_STEPS = "8 with the bundled model, 10 to 28 with SD3 and FLUX.1-dev, 4 with FLUX.1-schnell"
_GUIDANCE = "1 to 2 with the bundled model, 3.5 with FLUX.1-dev, your usual value with others"

TYPICAL = {
    "GDRO_PromptSet": {"limit": "0, or 64 to 128 for a first try"},
    "GDRO_GroupRollout": {
        "steps": _STEPS,
        "guidance": _GUIDANCE,
        "run_name": "a word for what you are trying",
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
"""Typical values by node id and input; the page shows only range and default for other inputs."""

_SIZE = (
    "`… is not a multiple of … pixels`",
    "Use one of the two sizes in the message, or 0.",
)
_UNREADABLE = (
    "`… has text this model cannot read: …`",
    "Use letters, digits and punctuation. The bundled model reads English letters only.",
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
            "Write one prompt per line. Lines that start with # do not count.",
        ),
        (
            "`file: … is not among the prompt files`",
            "Put a `.txt`, `.jsonl` or `.csv` file into ComfyUI's `input` folder, press R, and choose it.",
        ),
        (
            "`file: line … cannot be used: …`",
            "Fix that line; the message says what is wrong.",
        ),
        ("`… is not text in UTF-8`", "Save the file as UTF-8 text."),
        (
            "No error, but the evaluation looks too good",
            "Training and evaluation use the same prompts. Evaluate on a held-out set.",
        ),
    ],
    "GDRO_GroupRollout": [
        (
            "`run_name: … cannot be used as a folder name`",
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
            "The folder's `run.json` has been changed. Move the folder away, or choose another "
            "`run_name`.",
        ),
        (
            "All images are generated again",
            "A setting that affects the pictures has changed. Set it back to find the old run "
            "again.",
        ),
    ],
    "GDRO_OCRReward": [
        (
            "`prompts: … does not say what must be legible`",
            'Put the text into double quotes: `a sign that says "OPEN"`. GDRO Score Rollout shows '
            "this message.",
        ),
        (
            "`reward: RapidOCR cannot be used (…)`",
            "Install it into ComfyUI's Python with `pip install rapidocr onnxruntime`, then "
            "restart ComfyUI.",
        ),
        (
            "`this RapidOCR comes without its models and would download them`",
            "Install version 3.4 or newer: `pip install --upgrade rapidocr`.",
        ),
        (
            "`prompts: … has letters that cannot be read here: …`",
            "Use words in Latin letters, Chinese or Japanese, or let GDRO VLM Reward judge the "
            "text.",
        ),
        (
            "Low rewards for clearly legible text",
            "`line` is set for pictures that show more than one line of text. Use `detect`.",
        ),
    ],
    "GDRO_CompositionReward": [
        (
            "`prompts: … is not understood`",
            "The prompt says more than shapes, colours and places. Write it as the message says, "
            "or give `include` in a prompt file. GDRO Score Rollout shows this message.",
        ),
        ("`prompts: … has no number`", "Give a number: `two circles`, not `circles`."),
        (
            "`detector: … is a …`",
            "The folder contains another network. Choose an OWLv2 or a Grounding DINO.",
        ),
        (
            "`… is not on this machine`",
            "Turn `download` on, or choose local folders. GDRO Score Rollout shows this message.",
        ),
        (
            "`This reward sees … in …, nothing else.`",
            "Ask for a circle, square, triangle or star in one of the colours that the message "
            "lists.",
        ),
        (
            "Rewards near 0 for photographs",
            "The detector is `shapes`, which finds flat shapes on a light wall. Choose another "
            "one.",
        ),
        (
            "Counts are too high in photographs",
            "Things are counted twice. Raise `threshold`.",
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
            "The model can already do this. Ask for something harder.",
        ),
    ],
    "GDRO_EvaluateAlignment": [
        (
            "`prompts: … is too few`",
            "Evaluate on at least 2 prompts, or on 50 or more to see a small gain.",
        ),
        (
            "`aligned: this LoRA was trained for another model`",
            "Connect the model that the LoRA was trained on.",
        ),
        _SIZE,
        (
            "`prompts: …`, at once",
            "The model or the reward cannot read one of the prompts. The message names it.",
        ),
        (
            "The interval contains 0",
            "The gain may be luck. Use more prompts, or train longer.",
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
            "Base and aligned pictures are the same",
            "`strength` is 0, or nothing is connected to `aligned`.",
        ),
    ],
}
"""Common mistakes by node id: what the user sees, and what to do."""
