"""Help pages of rewards in which a network judges, the hand-written part; see ``help_text.py``."""

from __future__ import annotations

ADVICE = {
    "GDRO_VLMReward": """For what no formula measures: cosy, funny, in your house style. Ask about one thing,
and describe both ends of the scale: `How cosy does this room look? 1: an empty office, 5: you want to stay.`
Write `{prompt}` where the model should read the picture's prompt.

**Who answers.** *endpoint* is any server that speaks OpenAI's protocol. Nothing is sent until you enter its
address; from then on, the pictures and the question go there, so consider whose pictures they are.

| Server | `address` | key |
|---|---|---|
| Ollama | `http://localhost:11434/v1` | none |
| LM Studio | `http://localhost:1234/v1` | none |
| vLLM | `http://localhost:8000/v1` | none |
| a paid service | see its documentation; usually ends in `/v1` | in ComfyUI's settings |

A key never belongs on a node: workflows are shared, and every picture contains one. In ComfyUI's settings,
under *GDRO*, enter the host and its key as `api.openai.com=sk-...` (several separated by commas), or set the
environment variable `GDRO_KEYS` to the same. A key is sent only to its own host, whatever a workflow asks
for, and only over https or inside your own network. ComfyUI stores its settings on the server as plain text.

*local model* is a folder in `models/LLM` or `models/gdro` with `config.json`, `*.safetensors` and a processor
with a chat template (Qwen2.5-VL, SmolVLM, LLaVA, UnifiedReward). Code in the folder is not run.

**Fine differences.** A judge that gives every picture of a group a 4 teaches nothing. If the model returns
the probabilities of its tokens, the reward is the expected score (3.8, 4.1, ...). This needs a scale within 0
to 9, such as 1 to 5, and works best without `reason`. vLLM, LM Studio and OpenAI return them, and local
models always do; with other servers, the single answer counts.

| Answer | |
|---|---|
| thoughts before it, in any common marks | left out |
| on a scale to 5: `4/5`, `4 out of 5` | 4 |
| another scale or a range: `4/10` on a scale to 5, `80%`, `3-4` | no score |
| a part beside the whole: `composition score: 3`, `score: 4` | 4 |
| cut at `max_tokens` | counts only if the score comes first |
| thoughts without an answer | no score; raise `max_tokens`, or turn thinking off |

Faults that last (no vision, no credit, a wrong key, too large a picture) stop the run at once and say what to
change. Faults that may pass are repeated.

| Ready question | scale | reward |
|---|---|---|
| follows the prompt: how much of the prompt is there, whatever the beauty | 1 to 5 | 0 to 1 |
| hands and faces: how well they are drawn; 3 where there are none | 1 to 5 | 0 to 1 |
| checklist: your questions with yes for an answer, 20 at most | 0 or 1 each | the share of yes |
| UnifiedReward: alignment, coherence, style | 1 to 5 each | their mean, 0 to 1 |

A checklist is easier to answer than one grand question, and GDRO Score Rollout shows which answers were no.
Write each question so that yes is good: `Are there exactly two cats?`, `Is the sky free of birds?`

**UnifiedReward** asks for three scores from 1 to 5: does the picture match its prompt (alignment), is it
consistent (coherence), is it pleasing (style). The reward is their mean. Use it with a
[UnifiedReward](https://arxiv.org/abs/2503.05236) model, which was trained to answer in this form; the
surrounding wording is ours. It also works as a guard: if another reward rises while this one falls, the model
has found a trick.

**Cost.** The node shows an estimate for 1,000 pictures, and the log shows one for each run before the first
call (one token per 28 x 28 pixels; services differ). Every answer is saved in `output/gdro/answers/` at once:
after a cancel or a failure, only the missing ones are requested, and you never pay for the same picture
twice. Delete that folder to ask again.""",
    "GDRO_PreferenceReward": """For pictures that people like better, when you cannot put into words what
better means. Each model looks at the picture as its authors intended, and gives a number on its own scale.
Training expects rewards from 0 to 1, so that scale is mapped from *at 0* to *at 1*; values may lie slightly
outside, and nothing is clipped.

| Model | own scale | at 0 | at 1 | weights (hub) |
|---|---|---|---|---|
| PickScore | CLIP-H's cosine times 100 (its temperature) | 16 | 26 | 4 GB, `yuvalkirstain/PickScore_v1` |
| HPSv2.1 | CLIP-H's cosine | 0.15 | 0.35 | 4 GB, `RE-N-Y/hpsv21` |
| ImageReward | 0 is average, 1 is good | -2 | 2 | 1.8 GB, `RE-N-Y/ImageReward` |
| CLIP score | CLIP-L's cosine times 100 | 15 | 35 | 1.7 GB, `openai/clip-vit-large-patch14` |
| LAION aesthetic | 1 to 10 | 3 | 8 | those of CLIP score, and `RE-N-Y/laion-aesthetic` |

HPSv2.1 sees the whole picture with black margins, the others see its central square, all at 224 pixels.
Papers that divide PickScore by 26 get (16 + 10 x reward) / 26. As in the originals, texts are cut off after
77 tokens (ImageReward: 35). LAION aesthetic ignores the prompt. The published files of HPSv2.1, ImageReward
and LAION aesthetic are pickles, which can run any code and are never opened; the copies on the hub that are
named here hold the same weights as safetensors.

**Local folder.** Put a folder into `models/gdro/` with the weights as `*.safetensors` and the tokenizer's
files (`tokenizer.json`, `tokenizer_config.json`): CLIP's, or for ImageReward those of `bert-base-uncased`.
PickScore and CLIP score also need their `config.json`. LAION aesthetic needs CLIP-L as `model.safetensors`
with its `config.json`, and next to it the head in a file with `aesthetic` in its name.

**Tricks.** These models can be fooled: PickScore and HPSv2.1 like strong contrast and drawings, the aesthetic
score likes pretty but empty pictures. Watch the pictures of the evaluation, keep `beta` high, and check the
reward against a second one.""",
}

TYPICAL = {
    "GDRO_PreferenceReward": {
        "kind": "`PickScore` for taste and prompt, `HPSv2.1` for style",
        "weights.download": "on for the first run",
    },
    "GDRO_VLMReward": {
        "ask.questions": "3 to 8 questions",
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
            "Turn `download` on, or choose a local folder. GDRO Score Rollout shows this message.",
        ),
        (
            "`… cannot be fetched from the Hugging Face hub (…)`",
            "There is no network, or `HF_HUB_OFFLINE` is set. Copy the folder from another machine.",
        ),
        (
            "`… cannot be loaded (…)`",
            "A file is missing: `config.json`, the tokenizer's files, or `*.safetensors`. Pickles "
            "(`.bin`, `.pt`, `.pth`) are not read.",
        ),
        (
            "`weights: … does not hold … (…)`",
            "The folder belongs to another model. Choose the `kind` of that model.",
        ),
        (
            "`… has … files of weights (*.safetensors)`",
            "Keep only one, or name it after the model: `hpsv21`, `imagereward`, `aesthetic`.",
        ),
        (
            "`… lacks … of the weights of a …`",
            "The folder holds only a part of that model. Copy all of it.",
        ),
        (
            "The rewards of a group hardly differ",
            "This is normal for CLIP scores. Lower `temperature` in GDRO Train LoRA, or use "
            "PickScore.",
        ),
    ],
    "GDRO_VLMReward": [
        (
            "`questions: there …`",
            "Write 1 to 20 questions, one a line.",
        ),
        (
            "`address: it is empty, so nothing is asked`",
            "Enter the address of your server, or choose *local model*.",
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
            "Enter it in ComfyUI's settings under *GDRO*, with the host exactly as in the address.",
        ),
        (
            "`address: the key would travel unprotected over http`",
            "Use https for a server outside your own network.",
        ),
        (
            "`model: the endpoint rejects the question (…)`",
            "The model cannot see pictures. Choose one that can.",
        ),
        (
            "`folder: … is not a chat model: it has no chat template for pictures`",
            "Use the *instruct* or *chat* version of that model.",
        ),
        (
            "A picture was not judged, and scoring stopped",
            "The model refused, or gave no score. Set `on_refusal` to `worst score`, ask more "
            "plainly, or raise `max_tokens` for a model that thinks first. The answers received "
            "so far are kept.",
        ),
        (
            "All pictures of a group have the same score",
            "Use a scale of 1 to 5 with a server that returns token probabilities, or describe "
            "the ends of the scale.",
        ),
    ],
}
