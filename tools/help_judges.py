"""The hand-written part of the help pages of rewards that networks give; see ``help_text.py``."""

from __future__ import annotations

ADVICE = {
    "GDRO_VLMReward": """For what no formula measures: cosy, funny, in the style of your house. Ask
about one thing, and say what the ends of the scale look like: `How cosy does this room look? 1: an empty
office, 5: you want to stay.` Write `{prompt}` where the model should read the picture's prompt.

**Who answers.** *endpoint* is any server that speaks OpenAI's protocol. Nothing is sent before you type
its address; then the pictures and the question go there, so mind whose pictures they are.

| Server | `address` | key |
|---|---|---|
| Ollama | `http://localhost:11434/v1` | none |
| LM Studio | `http://localhost:1234/v1` | none |
| vLLM | `http://localhost:8000/v1` | none |
| a paid service | what its pages say, mostly with `/v1` at the end | in ComfyUI's settings |

A key never belongs on a node: a workflow is shared, and every picture carries it. Open ComfyUI's settings,
*GDRO*, and type the host and its key as `api.openai.com=sk-...` (several with commas between), or set the
environment variable `GDRO_KEYS` to the same. A key goes to its own host and to no other, whatever a
workflow asks, over https or inside your own network. ComfyUI keeps its settings as plain text on the server.

*local model* is a folder in `models/LLM` or `models/gdro`: `config.json`, `*.safetensors`, a processor with
a chat template (Qwen2.5-VL, SmolVLM, LLaVA, UnifiedReward). Code that lies in the folder is not run.

**Fine differences.** A judge that says 4 to every picture of a group teaches nothing. Where the model gives
the probabilities of its tokens, the reward is the expected score (3.8, 4.1, ...). That needs a scale inside
0 to 9, such as 1 to 5, and works best without `reason`. vLLM, LM Studio and OpenAI give them, and local
models always do; where a server does not, its single answer counts.

**UnifiedReward** asks for three scores from 1 to 5: does the picture match its prompt (alignment), is it
consistent (coherence), is it pleasing (style). The reward is their mean. Use it with a
[UnifiedReward](https://arxiv.org/abs/2503.05236) model, which was trained for this form of answer; the
wording around it is ours. It is also a guard: if another reward rises while this one falls, the model has
found a trick.

**Cost.** The node shows an estimate for 1,000 pictures, and the log the one of each run before its first
call (a token for 28 x 28 pixels; services differ). Every answer is kept in `output/gdro/answers/` at once:
after a cancel or a failure only the missing ones are asked for, and the same picture is never paid for
twice. Delete that folder to ask anew.""",
    "GDRO_PreferenceReward": """For pictures that people like better, when you cannot say in words what
better means. Each model looks at the picture as its authors do, and gives a number on a scale of its own.
Training wants rewards from 0 to 1, so that scale is stretched from *at 0* to *at 1*; a value may lie a
little outside, nothing is cut off.

| Model | scale of its own | at 0 | at 1 | weights (hub) |
|---|---|---|---|---|
| PickScore | CLIP-H's cosine times 100 (its temperature) | 16 | 26 | 4 GB, `yuvalkirstain/PickScore_v1` |
| HPSv2.1 | CLIP-H's cosine | 0.15 | 0.35 | 4 GB, `RE-N-Y/hpsv21` |
| ImageReward | 0 is average, 1 is good | -2 | 2 | 1.8 GB, `RE-N-Y/ImageReward` |
| CLIP score | CLIP-L's cosine times 100 | 15 | 35 | 1.7 GB, `openai/clip-vit-large-patch14` |
| LAION aesthetic | 1 to 10 | 3 | 8 | CLIP score's, and `RE-N-Y/laion-aesthetic` |

HPSv2.1 sees the whole picture with black margins, the others its middle square, all at 224 pixels.
Papers that divide PickScore by 26 get (16 + 10 x reward) / 26. Texts are read up to 77 tokens (ImageReward:
35), the rest is cut off, as in the originals. LAION aesthetic does not look at the prompt. The published
files of HPSv2.1, ImageReward and LAION aesthetic are pickles, which may hold any program and are never
opened; the hub's copies named here are the same weights as safetensors.

**Local folder.** Put it into `models/gdro/`: the weights as `*.safetensors`, and the files of the
tokenizer (`tokenizer.json`, `tokenizer_config.json`; CLIP's, for ImageReward that of `bert-base-uncased`).
PickScore and CLIP score need their `config.json` too; LAION aesthetic wants CLIP-L with its `config.json` as
`model.safetensors`, and beside it the head in a file with `aesthetic` in its name.

**Tricks.** These models can be pleased without being right: PickScore and HPSv2.1 like strong contrast and
drawings, the aesthetic score likes empty pretty pictures. Watch the evaluation's pictures, keep `beta` high,
and hold a second reward against the first.""",
}

TYPICAL = {
    "GDRO_PreferenceReward": {
        "kind": "`PickScore` for taste and prompt, `HPSv2.1` for style",
        "weights.download": "on for the first run",
    },
    "GDRO_VLMReward": {
        "ask.worst": "1",
        "ask.best": "5",
        "answered_by.model": "`qwen2.5vl:7b` in Ollama",
        "answered_by.concurrency": "1 for Ollama, 16 for vLLM",
        "answered_by.longest_side": "512 to 1024",
        "on_refusal": "`stop`; `worst score` for people and brands",
    },
}

MISTAKES = {
    "GDRO_PreferenceReward": [
        (
            "`… is not on this machine`",
            "Switch `download` on, or choose a local folder. GDRO Score Rollout says this.",
        ),
        (
            "`… cannot be fetched from the Hugging Face hub (…)`",
            "There is no network, or `HF_HUB_OFFLINE` is set. Copy the folder from another machine.",
        ),
        (
            "`… cannot be loaded (…)`",
            "A file is missing: `config.json`, the tokenizer's files, or `*.safetensors`. Pickles (`.bin`, "
            "`.pt`, `.pth`) do not count.",
        ),
        (
            "`weights: … does not hold … (…)`",
            "The folder belongs to another model. Choose its `kind`.",
        ),
        (
            "`… has … files of weights (*.safetensors)`",
            "Leave one, or name it after the model: `hpsv21`, `imagereward`, `aesthetic`.",
        ),
        (
            "`… lacks … of the weights of a …`",
            "The folder holds a part of that model only. Copy all of it.",
        ),
        (
            "The rewards of a group hardly differ",
            "That is so with CLIP scores. Lower `temperature` in GDRO Train LoRA, or use PickScore.",
        ),
    ],
    "GDRO_VLMReward": [
        (
            "`address: it is empty, so nothing is asked`",
            "Type the address of your server, or choose *local model*.",
        ),
        (
            "`address: nothing answers at … (…)`",
            "Start the server. In a container, `localhost` is the container itself.",
        ),
        (
            "`… knows no such page or model (…)`",
            "Add `/v1` to the address, and write the model's name as the server lists it.",
        ),
        (
            "`address: … wants … key (…)`",
            "Type it into ComfyUI's settings under *GDRO*, with the host as it stands in the address.",
        ),
        (
            "`address: the key would travel unprotected over http`",
            "Use https for a server outside of your own network.",
        ),
        (
            "`model: the endpoint turns the question down (…)`",
            "The model cannot see pictures. Choose one that can.",
        ),
        (
            "`folder: … is no model to talk to: it has no chat template for pictures`",
            "Take the *instruct* or *chat* version of that model.",
        ),
        (
            "A picture was not judged, and the scoring stopped",
            "The model refused, or wrote no score. Set `on_refusal` to `worst score`, ask more plainly, or "
            "raise `max_tokens` for a model that thinks first. The answers that came are kept.",
        ),
        (
            "All pictures of a group have the same score",
            "Use a scale of 1 to 5 with a server that gives token probabilities, or describe the ends of "
            "the scale.",
        ),
    ],
}
