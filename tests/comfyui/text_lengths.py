"""Print how many tokens of T5's text ComfyUI reads, and how many the engine, as JSON.

Run by ComfyUI's Python in its checkout: python text_lengths.py PACK
"""

import json

import inside_comfyui  # noqa: F401  # isort: skip

from comfy.text_encoders.flux import FluxTokenizer
from comfy.text_encoders.sd3_clip import SD3Tokenizer
from gdro_pack.gdro_comfy.models import flux, sd3

TEXTS = [
    "",
    "a sign that says OPEN",
    "an old harbour in the rain, " * 9,
    "an old harbour in the rain, with ships and gulls; " * 14,
]

for name, ours, theirs in (
    ("dev", flux._DEV_TEXT, FluxTokenizer()),
    ("schnell", flux._SCHNELL_TEXT, FluxTokenizer()),
    ("sd3", sd3._TEXT, SD3Tokenizer()),
):
    t5 = theirs.t5xxl
    for text in TEXTS:
        (read,) = t5.tokenize_with_weights(text)
        (length,) = ours.by_length([text], t5.tokenizer)
        whole = len(t5.tokenizer(text)["input_ids"]) <= ours.at_most
        row = {"model": name, "comfyui": len(read), "engine": length, "whole": whole}
        print("GDRO", json.dumps(row))
