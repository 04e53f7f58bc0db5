"""Write the shipped prompt sets for models that draw photographs; every run writes the same files.

    python tools/make_real_prompts.py --out gdro_comfy/assets/prompts

- signs_train (800) and signs_heldout (200): texts in double quotes in 20 kinds of scene, for the OCR
  reward. No held-out text is in the training set.
- things_train (400) and things_heldout (100): GenEval's form and its six tasks (single object, two
  objects, counting, colours, position, colour attribution), for the composition reward with a detector.
  No held-out prompt asks for the same as another prompt.

Templates and word lists are in ``gdro_comfy/headless/prompt_generator.py``; ``gdro-comfy prompts`` writes
further sets.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gdro_comfy.headless.prompt_generator import sign_prompts, thing_prompts, write

SEED = 20260102


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gdro_comfy/assets/prompts"))
    out = parser.parse_args().out
    signs = sign_prompts(1000, SEED)
    write(out / "signs_train.jsonl", signs[:800])
    write(out / "signs_heldout.jsonl", signs[800:])
    things = thing_prompts(500, SEED)
    write(out / "things_train.jsonl", things[:400])
    write(out / "things_heldout.jsonl", things[400:])


if __name__ == "__main__":
    main()
