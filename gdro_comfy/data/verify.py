"""Look through a run's folder for files that are damaged or gone, and say what becomes of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import checksums, damage
from .files import digest, read_lines, read_record, read_safetensors
from .groups import Group, picture_fits
from .prompts import Prompt
from .ratings import FILE_NAME as RATINGS
from .runs import GROUPS, RECORD, SCORES, TRAININGS, read_settings
from .trainings import Training

_REMADE = "made anew when the workflow runs again"
_WRITTEN = "written anew when the workflow runs again"
_NOT_NEEDED = "only shown, not needed to go on; delete it"


@dataclass(frozen=True)
class Finding:
    """A file that is damaged or gone.

    Args:
        path: the file, or the folder of what is gone.
        found: what is wrong with it.
        remedy: what happens to it, or what to do.
        remade: whether a run makes it anew, as soon as it is out of the way.
    """

    path: Path
    found: str
    remedy: str
    remade: bool = False


@dataclass
class Report:
    """What was found.

    Args:
        intact: files whose checksum fits.
        unknown: readable files without a checksum.
        findings: all others, and what is gone.
    """

    intact: int = 0
    unknown: int = 0
    findings: list[Finding] = field(default_factory=list)

    def text(self, folder: Path) -> str:
        """Return the report in lines for the console; paths are relative to ``folder``."""
        unknown = f", {self.unknown} without a checksum" if self.unknown else ""
        lines = [f"{folder.name}: {self.intact} files intact{unknown}"]
        for finding in self.findings:
            path = finding.path
            name = path.relative_to(folder) if path.is_relative_to(folder) else path
            lines.append(f"  {name}: {finding.found}; {finding.remedy}")
        return "\n".join(lines)

    def as_json(self, folder: Path) -> dict[str, Any]:
        """Return the report for a client; ``folder`` is that of the run."""
        return {
            "run": folder.name,
            "intact": self.intact,
            "unknown": self.unknown,
            "findings": [
                {
                    "file": (
                        finding.path.relative_to(folder).as_posix()
                        if finding.path.is_relative_to(folder)
                        else finding.path.name
                    ),
                    "found": finding.found,
                    "remedy": finding.remedy,
                    "remade": finding.remade,
                }
                for finding in self.findings
            ],
        }


def verify(
    folder: Path,
    lora_dir: Path | None = None,
    on_file: Callable[[Path], None] = lambda path: None,
) -> Report:
    """Read every file of a run and compare it with its checksum; nothing is changed.

    Links are not followed.

    Args:
        folder: of the run, or of a training's round or evaluation.
        lora_dir: where finished LoRAs lie; None leaves them out.
        on_file: called before each file, and may raise to stop.
    """
    report = Report()
    check = _Checker(report, on_file)
    check.run(folder)
    for training in _folders(folder / TRAININGS):
        check.training(Training(training), lora_dir)
    return report


def set_aside(report: Report) -> int:
    """Put damaged files that a run makes anew out of its way; return how many.

    Call it while holding the lock of the run.
    """
    doomed = [finding.path for finding in report.findings if finding.remade]
    doomed = [path for path in dict.fromkeys(doomed) if path.is_file()]
    for path in doomed:
        damage.set_aside(path)
    return len(doomed)


class _Checker:
    def __init__(self, report: Report, on_file: Callable[[Path], None]) -> None:
        self.report, self.on_file = report, on_file

    def run(self, folder: Path) -> None:
        self.record(folder / RECORD, "move the folder away, or put a copy of the file in its place")
        settings = read_settings(folder)
        seed = settings.get("seed")
        for group in _folders(folder / GROUPS):
            self.group(group, seed if isinstance(seed, int) else None)
        for path in _files(folder / SCORES, ".jsonl"):
            self.lines(path, "GDRO Score Rollout scores again what they held")
        self.lines(
            folder / RATINGS, "rate these groups again, or put a copy of the file in its place"
        )
        if (folder / "workflow.json").is_file():
            self.record(folder / "workflow.json", _WRITTEN)

    def group(self, folder: Path, seed: int | None) -> None:
        group = Group(folder, Prompt("?"), seed or 0)
        state, chunks = group.state(), group.chunks()
        text = self._prompt(group, bool(state.count))
        for path in state.strays:
            self.add(
                path, "damaged, or it follows a damaged one", f"its pictures are {_REMADE}", True
            )
        if not (state.count or state.strays) and group.image_path(0).is_file():
            path = folder / "latents.safetensors"
            self.add(path, "gone, or never finished", f"{_REMADE}, with the same seeds", True)
        pictures = []
        for chunk in chunks:
            tensors = self.tensors(chunk.path, f"{_REMADE}, with the same seeds", remade=True)
            pictures += chunk.pictures
            if tensors is None or text is None or seed is None:
                continue
            known = Group(folder, Prompt(text), seed)
            expected = [known.image_seed(chunk.start + i) for i in range(chunk.length)]
            if tensors["seeds"].tolist() != expected:
                self.add(chunk.path, "its seeds are not those of its pictures", _REMADE, True)
        if state.count and not group.conditioning_path.is_file():
            self.add(group.conditioning_path, "gone", _REMADE, True)
        if group.conditioning_path.is_file():
            self.tensors(group.conditioning_path, _REMADE, remade=True)
        for index, picture in enumerate(pictures):
            path = group.image_path(index)
            self.on_file(path)
            try:
                data = path.read_bytes()
            except OSError:
                self.add(path, "gone", f"{_REMADE} from its latents", True)
                continue
            if picture_fits(data, picture):
                self.report.intact += 1
            else:
                self.add(path, "damaged", f"{_REMADE} from its latents", True)

    def _prompt(self, group: Group, needed: bool) -> str | None:
        """Check the prompt of a group and return its text, if that is the one of the folder's name."""
        path = group.prompt_path
        if not path.is_file():
            if needed:
                self.add(path, "gone", _WRITTEN, True)
            return None
        self.record(path, _WRITTEN, remade=True)
        try:
            text = read_record(path).get("text")
        except (OSError, ValueError):
            return None
        if isinstance(text, str) and digest(text) == group.folder.name:
            return text
        self.add(path, "it has another prompt than its folder", _WRITTEN, True)
        return None

    def training(self, files: Training, lora_dir: Path | None) -> None:
        if files.config.is_file():
            self.record(files.config, _WRITTEN, remade=True)
        again = "put a copy in its place, or delete it to train again from the first step"
        self.lines(files.history, "the curve lacks these steps; nothing else does")
        unfinished = not files.done.is_file()
        if not unfinished and not files.history.is_file():
            self.add(files.history, "gone", "the training has no curve; nothing else is lost")
        if files.checkpoint.is_file():
            self.tensors(files.checkpoint, again)
        elif unfinished and files.rows():
            self.add(files.checkpoint, "gone", "the training starts again from the first step")
        if not unfinished:
            self.record(files.done, f"{_WRITTEN}, if there is a checkpoint", remade=True)
            self._lora(files, lora_dir)
        for path in _files(files.validation, ".json"):
            self.record(path, _REMADE, remade=True)
        for path in _files(files.validation, ".safetensors"):
            self.tensors(path, "put a copy in its place, or delete it: the last weights count then")
        for path in (*_files(files.samples, ".png"), *_files(files.validation, ".png")):
            self.png(path)
        for path in _folders(files.folder / "rounds"):
            self.run(path)
        for path in _folders(files.evaluation_rollouts):
            self.run(path)
        for path in _folders(files.evaluations):
            if path != files.evaluation_rollouts:
                self.evaluation(path)

    def _lora(self, files: Training, lora_dir: Path | None) -> None:
        try:
            name = read_record(files.done).get("lora")
        except (OSError, ValueError):
            return
        if lora_dir is None or not isinstance(name, str) or Path(name).name != name:
            return
        path = lora_dir / "gdro" / name
        remade = files.checkpoint.is_file()
        remedy = "written again from the checkpoint when the workflow runs again"
        if not remade:
            remedy = "put a copy in its place, or delete it to train again"
        if path.is_file():
            self.tensors(path, remedy, remade)
        else:
            self.add(path, "gone", remedy, remade)

    def evaluation(self, folder: Path) -> None:
        path = folder / "result.json"
        if not path.is_file():
            return
        self.record(path, _REMADE, remade=True)
        try:
            kept = read_record(path).get("files")
        except (OSError, ValueError):
            return
        for name in ("comparison.png", "report.html"):
            file = folder / name
            self.on_file(file)
            known = kept.get(name) if isinstance(kept, dict) else None
            data = file.read_bytes() if file.is_file() else None
            if data is None:
                self.add(file, "gone", _REMADE, True)
            elif known is None:
                self.report.unknown += 1
            elif known == [len(data), checksums.crc(data)]:
                self.report.intact += 1
            else:
                self.add(file, "damaged", _REMADE, True)

    def record(self, path: Path, remedy: str, remade: bool = False) -> None:
        self.on_file(path)
        try:
            read_record(path)
            _, fits = checksums.unseal_json(path.read_bytes())
        except OSError:
            self.add(path, "gone, or it cannot be opened", remedy, remade)
        except ValueError as error:
            self.add(path, f"damaged ({error})", remedy, remade)
        else:
            self._count(fits)

    def lines(self, path: Path, remedy: str) -> None:
        if not path.is_file():
            return
        self.on_file(path)
        damaged: list[int] = []
        read_lines(path, damaged)
        lines = path.read_bytes().split(b"\n")
        # A line without its end, as a crash leaves it, was never finished: its work is done again.
        broken = [number for number in damaged if lines[number - 1].rstrip().endswith(b"}")]
        if broken:
            which = "a line is damaged" if len(broken) == 1 else f"{len(broken)} lines are damaged"
            self.add(path, f"{which}, the first is line {broken[0]}", remedy)
        else:
            sealed = [checksums.unseal_json(line)[1] for line in lines if line]
            self._count(True if sealed and None not in sealed else None)

    def tensors(self, path: Path, remedy: str, remade: bool = False) -> dict[str, Any] | None:
        self.on_file(path)
        try:
            tensors, _ = read_safetensors(path)
        except damage.DamagedFile as error:
            self.add(path, error.reason, remedy, remade)
            return None
        with open(path, "rb") as file:
            start = file.read(1 << 20)
        self._count(True if checksums.TENSORS_KEY.encode() in start else None)
        return tensors

    def png(self, path: Path) -> None:
        self.on_file(path)
        if checksums.png_fits(path.read_bytes()):
            self.report.intact += 1
        else:
            self.add(path, "damaged", _NOT_NEEDED)

    def add(self, path: Path, found: str, remedy: str, remade: bool = False) -> None:
        self.report.findings.append(Finding(path, found, remedy, remade))

    def _count(self, fits: bool | None) -> None:
        if fits is None:
            self.report.unknown += 1
        else:
            self.report.intact += 1


def _folders(folder: Path) -> Iterator[Path]:
    yield from (path for path in _listed(folder) if path.is_dir())


def _files(folder: Path, suffix: str) -> Iterator[Path]:
    yield from (path for path in _listed(folder) if path.suffix == suffix and path.is_file())


def _listed(folder: Path) -> list[Path]:
    """Return what lies in a folder, without hidden files and links; nothing if it is none."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if not e.is_symlink() and not e.name.startswith(".")]
    return [folder / name for name in sorted(names)]
