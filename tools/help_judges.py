"""The hand-written part of the help pages of rewards that networks give; see ``help_text.py``."""

from __future__ import annotations

ADVICE = {
    "GDRO_VLMReward": """For what no formula measures: cosy, funny, in the style of your house. Ask
about one thing, and say what the ends of the scale look like: `How cosy does this room look? 1: an empty
office, 5: you want to stay.` Write `{prompt}` where the model should read the picture's prompt.

**Who answers.** *endpoint* is any server that speaks OpenAI's protocol. Nothing is sent before you type
its address; then the pictures and the question go there, so mind whose pictures they are.

| Server | `address` | `key_variable` |
|---|---|---|
| Ollama | `http://localhost:11434/v1` | empty |
| LM Studio | `http://localhost:1234/v1` | empty |
| vLLM | `http://localhost:8000/v1` | empty |
| a paid service | what its pages say, mostly with `/v1` at the end | name of a variable |

A key never belongs on a node: a workflow is shared, and every picture carries it. Put the key into an
environment variable (`setx JUDGE_KEY ...` on Windows, `export JUDGE_KEY=...` elsewhere), start ComfyUI
again, and type `JUDGE_KEY` here. It is sent over https only, or inside your own network.

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
}

TYPICAL = {
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
            "`key_variable: there is no environment variable of that name`",
            "Set it in the shell or the settings that ComfyUI is started from, and start it again.",
        ),
        (
            "`key_variable: that is no name of an environment variable`",
            "You typed the key itself. Take it out, and save the workflow again before you share it.",
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
