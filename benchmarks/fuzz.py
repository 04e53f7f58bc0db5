"""Give every reader inputs that nearly fit, for minutes; print what raised an error that is not ours.

python benchmarks/fuzz.py --minutes 10 --readers workflows "run folders"
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path[:0] = [
    str(Path(__file__).parents[1]),
    str(Path(__file__).parents[1] / "tests" / "support"),
]

from public_readers import READERS, check  # noqa: E402

_AT_ONCE = 200


def give(name: str, examples: int, number: int) -> int:
    """Give a reader this many inputs; return how many it got before one failed."""
    count = 0

    @seed(number)
    @settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(READERS[name].inputs)
    def fits(value: Any) -> None:
        nonlocal count
        count += 1
        with tempfile.TemporaryDirectory() as folder:
            check(name, Path(folder), value)

    fits()
    return count


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="for all readers together")
    parser.add_argument("--readers", nargs="+", choices=list(READERS), default=list(READERS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return fuzz(options)
    finally:
        logging.disable(before)


def fuzz(options: argparse.Namespace) -> int:
    """Give the readers inputs until the time is over; return the process's exit code."""
    chance, until = random.Random(options.seed), time.monotonic() + 60 * options.minutes
    counts: Counter[str] = Counter()
    found: Counter[str] = Counter()
    while time.monotonic() < until:
        for name in options.readers:
            try:
                counts[name] += give(name, _AT_ONCE, chance.randrange(2**60))
            except Exception as error:  # whatever a reader raises is what is looked for
                key = f"{name}: {type(error).__name__}: {str(error)[:200]}"
                found[key] += 1
                if found[key] == 1:
                    print(key, *getattr(error, "__notes__", ())[:1], sep="\n", flush=True)
            if time.monotonic() > until:
                break
    for name, count in counts.items():
        print(f"{name:24}{count:9,} inputs")
    print(f"{'all':24}{sum(counts.values()):9,} inputs, {len(found)} errors that are not ours")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
