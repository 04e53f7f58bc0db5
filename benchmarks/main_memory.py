"""Measure the main memory that loading a released model takes, with files of zeros at their true sizes.

    python benchmarks/main_memory.py [--only NAME] [--toy]

Each model is loaded from single files as the node GDRO Load Base Model does, in a process of its own. What
counts is memory that no file backs (RssAnon of /proc, so on Linux alone), at its peak and afterwards, less
what the imports take: pages of a mapped file are the system's to drop. The files are sparse and take no disk.
bitsandbytes packs NF4 on the CPU here; on a card the same layer goes there and back.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

GIB = 1 << 30


@dataclass(frozen=True)
class Case:
    """A model to load.

    Args:
        title: one of ``sparse_files.TRANSFORMERS``.
        stored: dtype of the transformer's file, as safetensors writes it.
        quantization: as the node has it.
        t5: dtype of T5's file; None is without T5.
        target: the most that it should take, in GiB.
    """

    title: str
    stored: str
    quantization: str
    t5: str | None
    target: float

    def __str__(self) -> str:
        t5 = f" + T5 {self.t5}" if self.t5 else ""
        return f"{self.title} {self.stored} to {self.quantization}{t5}"


CASES = (
    Case("FLUX.1-dev", "F8_E4M3", "none", "F8_E4M3", 14),
    Case("FLUX.1-dev", "F8_E4M3", "8-bit", "F8_E4M3", 14),
    Case("FLUX.1-dev", "F8_E4M3", "nf4", "F8_E4M3", 14),
    Case("FLUX.1-dev", "BF16", "nf4", "F8_E4M3", 14),
    Case("SD3.5-large", "BF16", "nf4", "F16", 14),
    Case("SD3.5-medium", "BF16", "none", None, 8),
)
_TOY = {
    "FLUX.1-dev": {"num_layers": 1, "num_single_layers": 1},
    "SD3.5-large": {"num_layers": 2, "pos_embed_max_size": 32},
    "SD3.5-medium": {"num_layers": 2, "dual_attention_layers": (0,), "pos_embed_max_size": 32},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", help="cases whose name contains this")
    parser.add_argument("--toy", action="store_true", help="cut the models to a few layers")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case is not None:
        print(json.dumps(measure(CASES[options.case], options.toy)))
        return
    print(f"{'model':46}{'files':>9}{'peak':>9}{'after':>9}{'target':>9}   in GiB")
    for number, case in enumerate(CASES):
        if options.only in (None, *[options.only] * (str(options.only) in str(case))):
            row = _in_a_process(number, options.toy)
            figures = (row["files"], row["peak"], row["after"], case.target * GIB)
            print(f"{case!s:46}" + "".join(f"{n / GIB:9.2f}" for n in figures), flush=True)


def _in_a_process(number: int, toy: bool) -> dict[str, int]:
    command = [sys.executable, __file__, "--case", str(number), *(["--toy"] if toy else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measure(case: Case, toy: bool) -> dict[str, int]:
    """Load a model; return bytes: of its files, of memory at the peak and afterwards."""
    import torch
    from sparse_files import SmallTokenizers

    from gdro_comfy.models import single_files

    with tempfile.TemporaryDirectory() as folder:
        files = write(case, Path(folder), toy)
        host = SmallTokenizers(Path(folder), quiet=True)
        device = torch.device("cpu")
        _import_all(case)
        with _Watch() as watch:
            changes = case.quantization != "none"
            model = single_files.load(host, files, device, torch.bfloat16, changes)
            model.prepare(host, quantization=case.quantization)
        return {
            "files": sum(path.stat().st_size for path in files.values()),
            "peak": watch.peak,
            "after": watch.after,
        }


def write(case: Case, folder: Path, toy: bool) -> dict[str, Path]:
    """Write the files of a case; return them by the input of the node."""
    import sparse_files as sparse

    network = sparse.transformer(case.title, _TOY[case.title] if toy else None)
    shapes = sparse.transformer_shapes(case.title, network)
    layers = 1 if toy else None
    files = {
        "transformer": sparse.write(folder / "transformer.safetensors", shapes, case.stored),
        "clip_l": sparse.write(folder / "clip_l.safetensors", sparse.clip(False, layers), "F16"),
        "vae": sparse.write(folder / "vae.safetensors", sparse.vae(), "BF16"),
    }
    if not case.title.startswith("FLUX"):
        files["clip_g"] = sparse.write(
            folder / "clip_g.safetensors", sparse.clip(True, layers), "F16"
        )
    if case.t5:
        files["t5"] = sparse.write(folder / "t5.safetensors", sparse.t5(layers or 24), case.t5)
    return files


def _import_all(case: Case) -> None:
    """Import what loading imports, which would count otherwise."""
    import accelerate  # noqa: F401
    import transformers
    from diffusers import AutoencoderKL, FluxPipeline, StableDiffusion3Pipeline  # noqa: F401
    from diffusers.loaders import single_file_utils  # noqa: F401

    for name in ("CLIPTextModel", "T5EncoderModel", "CLIPTokenizer", "PreTrainedTokenizerFast"):
        getattr(transformers, name)
    if case.quantization == "nf4":
        import bitsandbytes.nn  # type: ignore  # noqa: F401


class _Watch:
    """Follow this process's anonymous memory, in a thread that looks a hundred times a second."""

    def __enter__(self) -> _Watch:
        self._before = self.peak = _anonymous()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._done.is_set():
            self.peak = max(self.peak, _anonymous())
            time.sleep(0.01)

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        self.after = _anonymous() - self._before
        self.peak -= self._before


def _anonymous() -> int:
    """Return the bytes of this process's memory that no file backs."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    if found is None:
        raise SystemExit("This system does not tell how much memory is backed by no file.")
    return int(found[1]) * 1024


if __name__ == "__main__":
    main()
