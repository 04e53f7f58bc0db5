"""Kill, fill, damage and double a run hundreds of times, and count what becomes of it.

    python benchmarks/faults.py --kills 200 --damaged 60 --full 20 --doubles 20

Every case is a chain of rollout, scores, training with validation, and evaluation on the bundled model. A
kill is SIGKILL, half of them at a random moment, half in the middle of a write of a chosen kind of file. A
full disk is an injected ENOSPC, halfway through a write, that lasts until the process ends. A damaged file is
gone, empty, cut short, has a flipped bit, zeros from some place on, or other bytes. Two processes begin on
one folder at nearly the same time. Afterwards the chain runs again, undisturbed.

    identical    all latents, pictures, scores, losses and the LoRA equal the undisturbed ones bit for bit,
                 the evaluation to four decimals: its batches depend on where it was interrupted
    healed       what was damaged is made anew, and the chain finishes; where last bits differ, as in other
                 batches, the log names the file
    refused      an error in words, which names the file or disk; following it, the chain finishes
    lost         the chain cannot finish, or its result differs although no word was said
    raw          an error that is not in our words
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter as Tally
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import fault_injection as faults
from fault_injection import DONE, KILLED, RAW, REFUSED, At, Outcome, Process

COLUMNS = ("injected", "identical", "healed", "refused", "lost", "raw")
DAMAGES = ("gone", "empty", "short", "bit", "bit", "zeros", "other")


class Bench:
    """The undisturbed chain, and cases against it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.chance = folder, random.Random(seed)
        self.model = faults.load()
        # What is imported late is imported once, before the forks.
        faults.chain(self.model, folder / "warm")
        self.table: dict[str, Tally[str]] = {}
        self.kinds: Tally[str] = Tally()
        self.problems: list[str] = []
        steps = folder / "steps"
        started = time.monotonic()
        outcome = Process(self.model, folder / "whole", faults.Counter(steps)).wait()
        if outcome.code != DONE:
            raise SystemExit(f"the undisturbed chain failed: {outcome.said}")
        self.seconds = time.monotonic() - started
        self.expected = outcome.said
        self.steps: dict[str, list[int]] = {}
        for number, line in enumerate(steps.read_text(encoding="utf-8").splitlines()):
            kind = line.partition(" ")[2]
            self.steps.setdefault(kind, []).append(number)
        self.total = sum(map(len, self.steps.values()))
        self._number = 0

    def output(self) -> Path:
        self._number += 1
        return self.folder / f"case{self._number}"

    def count(self, row: str, outcome: str, why: str = "", injected: int = 1) -> None:
        tally = self.table.setdefault(row, Tally())
        tally["injected"] += injected
        tally[outcome] += injected
        if outcome in ("lost", "raw"):
            self.problems.append(f"{row}: {outcome}: {why[-1500:]}")
            print(self.problems[-1], file=sys.stderr, flush=True)

    def finish(
        self, row: str, output: Path, injected: int, *, refused: bool = False, how: str = ""
    ) -> None:
        """Run the chain undisturbed, and count what became of it."""
        outcome = Process(self.model, output).wait()
        if outcome.code == DONE and outcome.said == self.expected:
            self.count(row, "refused" if refused else "identical", injected=injected)
        else:
            kind = "raw" if outcome.code == RAW else "lost"
            why = outcome.said or f"exit {outcome.code}"
            if outcome.code == DONE:
                parts, expected = json.loads(outcome.said), json.loads(self.expected)
                why = "other " + ", ".join(name for name in parts if parts[name] != expected[name])
            self.count(row, kind, f"{how}: {why}", injected)
        shutil.rmtree(output, ignore_errors=True)

    def kills(self, count: int) -> None:
        kinds = sorted(self.steps)
        left = count
        number = 0
        while left > 0:
            output, here = self.output(), min(left, self.chance.choice((1, 2, 3, 4)))
            done, how = 0, []
            for _ in range(here):
                number += 1
                if number % 2:
                    process = Process(self.model, output)
                    wait = self.chance.uniform(0.02, 0.9) * self.seconds
                    how.append(f"after {wait:.2f} s")
                    time.sleep(wait)
                    process.kill()
                else:
                    kind = kinds[number // 2 % len(kinds)]
                    step = self.chance.choice(self.steps[kind])
                    self.kinds[kind] += 1
                    how.append(f"in {kind}, step {step}")
                    process = Process(self.model, output, At(step, faults.die))
                outcome = process.wait()
                if outcome.code not in (KILLED, DONE):
                    self.count("kills", "raw", outcome.said)
                done += outcome.code == KILLED
            # A process that had ended before its kill came is none.
            if done:
                self.finish("kills", output, done, how="; ".join(how))
            left -= done

    def full_disks(self, count: int) -> None:
        for _ in range(count):
            output = self.output()
            step = self.chance.randrange(self.total)
            outcome = Process(self.model, output, At(step, faults.full, lasts=True)).wait()
            said = outcome.code == REFUSED and "is full" in outcome.said and "kept" in outcome.said
            if outcome.code == DONE:
                # The steps of this run were fewer, or a file for convenience was left out.
                self.finish("full disks", output, 1)
            elif not said:
                self.count("full disks", "raw", outcome.said)
            else:
                self.finish("full disks", output, 1, refused=True)

    def damaged(self, count: int) -> None:
        whole = self.folder / "whole"
        names = sorted(
            path.relative_to(whole) for path in whole.rglob("*")
            if path.is_file() and not path.name.startswith(".")
        )  # fmt: skip
        by_kind: dict[str, list[Path]] = {}
        for name in names:
            by_kind.setdefault(faults.kind_of(name), []).append(name)
        kinds = sorted(by_kind)
        for number in range(count):
            kind = kinds[number % len(kinds)]
            name, how = self.chance.choice(by_kind[kind]), self.chance.choice(DAMAGES)
            self.kinds[f"damaged {kind}"] += 1
            self._damaged(name, how, unfinished=self.chance.random() < 0.5)

    def _damaged(self, name: Path, how: str, unfinished: bool) -> None:
        """Damage a file of a run, of which half still have to train their last steps and evaluate."""
        output = faults.copy(self.folder / "whole", self.output())
        case = f"{name} {how}{' unfinished' if unfinished else ''}"
        if unfinished:
            for pattern in ("gdro/trial-*/train/*/done.json", "loras/gdro/*"):
                for path in output.glob(pattern):
                    path.unlink()
            for path in output.glob("gdro/trial-*/train/*/evaluations/*/result.json"):
                path.unlink()
        path = output / name
        if not path.is_file():
            shutil.rmtree(output)
            path = None
        if path is None:
            self._damaged(name, how, unfinished=False)
            return
        faults.damage(path, how, self.chance)
        damaged = path.read_bytes() if path.is_file() else None
        outcome, refused = self._following(output, Process(self.model, output).wait())
        if outcome.code == RAW:
            self.count("damaged files", "raw", f"{case}: {outcome.said}")
        elif outcome.code != DONE:
            self.count("damaged files", "lost", f"{case}: {outcome.said}")
        elif refused:
            self.count("damaged files", "refused")
        else:
            same = outcome.said == self.expected
            if same:
                anew = path.is_file() and path.read_bytes() != damaged
                self.count("damaged files", "healed" if anew else "identical")
            elif str(path) in outcome.warned:
                # Other batches, latents of 16 bits, a curve without a step: as the log says.
                self.count("damaged files", "healed")
            else:
                self.count("damaged files", "lost", f"{case}: other results, and not a word")
        shutil.rmtree(output, ignore_errors=True)

    def _following(self, output: Path, outcome: Outcome) -> tuple[Outcome, bool]:
        """Do what messages say, run again or delete the named file, until there are none."""
        refused = False
        for _ in range(4):
            if outcome.code != REFUSED:
                break
            refused = True
            named = [
                path for path in output.rglob("*") if path.is_file() and str(path) in outcome.said
            ]
            for path in named:
                if "delete it" in outcome.said or "Move that folder away" in outcome.said:
                    path.unlink()
            if not named and str(output) not in outcome.said and "score" not in outcome.said:
                break
            outcome = Process(self.model, output).wait()
        return outcome, refused

    def doubles(self, count: int) -> None:
        for _ in range(count):
            output = self.output()
            first = Process(self.model, output)
            time.sleep(self.chance.uniform(0, 0.5) * self.seconds)
            second = Process(self.model, output)
            outcomes = [first.wait(), second.wait()]
            raw = [o for o in outcomes if o.code not in (DONE, REFUSED)]
            wordless = [
                o for o in outcomes if o.code == REFUSED and "is being written" not in o.said
            ]
            if raw or wordless:
                self.count("double processes", "raw", (raw + wordless)[0].said)
            else:
                refused = any(outcome.code == REFUSED for outcome in outcomes)
                self.finish("double processes", output, 1, refused=refused)

    def print_table(self) -> None:
        print(f"{'':18}" + "".join(f"{column:>11}" for column in COLUMNS))
        rows = {**self.table, "all": sum(self.table.values(), Tally())}
        for row, tally in rows.items():
            print(f"{row:18}" + "".join(f"{tally[column]:>11}" for column in COLUMNS))
        print(
            f"\n{self.total} steps of writes in a chain of {self.seconds:.1f} s; kills inside writes, and"
        )
        print(
            "damaged files, by kind: "
            + ", ".join(f"{k} {n}" for k, n in sorted(self.kinds.items()))
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--damaged", type=int, default=60)
    parser.add_argument("--full", type=int, default=20)
    parser.add_argument("--doubles", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options: Any = parser.parse_args()
    # Stopped either way, it prints what it has.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        bench = Bench(Path(folder), options.seed)
        try:
            bench.doubles(options.doubles)
            bench.full_disks(options.full)
            bench.damaged(options.damaged)
            bench.kills(options.kills)
        except KeyboardInterrupt:
            print("stopped before the end")
        bench.print_table()
    return 1 if bench.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
