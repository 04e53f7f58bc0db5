"""The commands ``verify`` and ``gc``: what is damaged in a run, and what is left over."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..data import leftovers
from ..data import verify as verifying
from ..data.run_lock import writing
from ..errors import InputError
from ..viewer import ratings_csv


def verify(options: argparse.Namespace) -> int:
    """Print what is damaged or gone in a run; return 0 if nothing is, 1 if something is."""
    try:
        run = ratings_csv.find_run(options.output, options.name)
        report = verifying.verify(run, options.loras or options.output / "loras")
        print(report.text(run))
        if options.set_aside:
            with writing(run):
                count = verifying.set_aside(report)
            print(f"{count} damaged files set aside; run the workflow again to make them anew")
        elif any(finding.remade and finding.path.is_file() for finding in report.findings):
            print("--set-aside puts what can be made anew out of the way of the next run")
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 1 if report.findings else 0


def gc(options: argparse.Namespace) -> int:
    """Print what is left over below the output folder, and delete it if asked to."""
    found = leftovers.find(options.output, options.loras or options.output / "loras")
    problems: list[str] = []
    if options.delete:
        found, problems = leftovers.delete(found)
    for leftover in found:
        print(
            f"{_size(leftover.bytes):>10}  {leftover.kind:20}{_shown(leftover.path, options.output)}"
        )
    total = _size(sum(leftover.bytes for leftover in found))
    done = "deleted" if options.delete else "left over; --delete deletes them"
    print(f"{len(found)} files and folders, {total}, {done}" if found else "Nothing is left over.")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 2 if problems else 0


def _shown(path: Path, folder: Path) -> Path:
    return path.relative_to(folder) if path.is_relative_to(folder) else path


def _size(count: int) -> str:
    """Return a number of bytes for people.

    >>> _size(999), _size(1_500_000)
    ('999 B', '1.5 MB')
    """
    size, units = float(count), ["B", "kB", "MB", "GB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.0f} B" if units[0] == "B" else f"{size:.1f} {units[0]}"
