"""A diffusers folder from Hugging Face: only when the user asked for it, cancellable, resumable."""

from __future__ import annotations

import errno
import inspect
import json
import re
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.files import write_json
from ..errors import InputError
from .families import FAMILIES, Family

if TYPE_CHECKING:
    from ..host import Host

_INDEX = "model_index.json"
_RECORD = "download.json"
_KINDS = ("*.json", "*.safetensors", "*.txt", "*.model")
_GB = 1e9


def download(host: Host, repo_id: str, endpoint: str | None = None) -> Path:
    """The folder of a model, downloaded into the surroundings' folder of diffusers models.

    What is there already is not fetched again, also after a cancel or a crash in the middle of a file;
    a model that is complete needs no network at all.

    Args:
        repo_id: "owner/name".
        endpoint: of the hub; None is huggingface.co, or HF_ENDPOINT.

    Raises:
        InputError: no such model, one of another family, no access, no network, no room on the disk.
    """
    repo_id = repo_id.strip()
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repo_id) or ".." in repo_id:
        raise InputError(
            "repo_id", f"{repo_id!r} is no Hugging Face id", "Write it as owner/name, for example "
            "black-forest-labs/FLUX.1-dev.",
        )  # fmt: skip
    folder = host.model_dir("diffusers") / repo_id.replace("/", "--")
    if _complete(folder):
        return folder
    from huggingface_hub import errors

    # What its HTTP library raises, whichever that is.
    network: Any = errors.HfHubHTTPError.__bases__[0]
    try:
        _fetch(host, repo_id, folder, endpoint)
    except (OSError, network) as error:
        raise _explained(repo_id, folder, error) from error
    return folder


def _complete(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / _RECORD).read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _fetch(host: Host, repo_id: str, folder: Path, endpoint: str | None) -> None:
    from huggingface_hub import HfApi, hf_hub_download

    host.progress(0, 1, f"asking for {repo_id}")
    info = HfApi(endpoint=endpoint).model_info(repo_id, files_metadata=True, timeout=20)
    sizes = {file.rfilename: int(file.size or 0) for file in info.siblings or []}
    if _INDEX not in sizes:
        raise InputError(
            "repo_id",
            f"{repo_id} is no model in diffusers' layout (it has no {_INDEX})",
            "Choose one that has, or download its files yourself and choose single files.",
        )
    done, total = 0, 0

    def get(name: str) -> None:
        options: dict[str, Any] = {"revision": info.sha, "local_dir": folder, "endpoint": endpoint}
        if "tqdm_class" in inspect.signature(hf_hub_download).parameters:
            options["tqdm_class"] = _bar(lambda now: _tell(host, done + now, total))
        host.check_cancelled()
        hf_hub_download(repo_id, name, **options)

    get(_INDEX)
    index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    _family(repo_id, index)
    wanted = {name: size for name, size in sizes.items() if _wanted(name, index)}
    there = sum(size for name, size in wanted.items() if _has(folder / name, size))
    total = sum(wanted.values())
    free = shutil.disk_usage(folder).free
    if total - there > free:
        raise InputError(
            "repo_id",
            f"{repo_id} still needs {(total - there) / _GB:.1f} GB, and the disk of {folder} has "
            f"{free / _GB:.1f} GB free",
            "Make room there; what is downloaded already is kept.",
        )
    for name, size in sorted(wanted.items(), key=lambda item: item[1]):
        if not _has(folder / name, size):
            get(name)
        done += size
        _tell(host, done, total)
    write_json(folder / _RECORD, {"repo_id": repo_id, "revision": info.sha, "files": wanted})


def _has(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _tell(host: Host, done: int, total: int) -> None:
    host.check_cancelled()
    host.progress(done // 1_000_000, max(1, total // 1_000_000), "downloading, MB")


def _family(repo_id: str, index: dict[str, Any]) -> Family:
    kind = index.get("_class_name")
    for family in FAMILIES:
        if family.pipeline == kind:
            return family
    raise InputError(
        "repo_id",
        f"{repo_id} is a {kind}",
        f"Choose a model of: {', '.join(family.title for family in FAMILIES)}.",
    )


def _wanted(name: str, index: dict[str, Any]) -> bool:
    """Files of the pipeline's parts in safetensors; no second copies, no pickles, no pictures."""
    part, _, file = name.rpartition("/")
    if not part:
        return name == _INDEX
    value = index.get(part)
    used = isinstance(value, list) and len(value) == 2 and value[0] is not None
    variant = re.search(r"\.(fp16|bf16|fp32|non_ema)[.-]", file)
    return used and not variant and any(fnmatch(file, kind) for kind in _KINDS)


def _bar(tell: Callable[[int], None]) -> type:
    """A silent progress bar that passes on what it is told; ``tell`` may raise to stop."""
    from tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": True})
            self.seen = int(kwargs.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            self.seen += int(n or 0)
            tell(self.seen)

    return Bar


def _explained(repo_id: str, folder: Path, error: BaseException) -> InputError:
    """Words for what the hub's library or the disk said."""
    from huggingface_hub import errors

    if getattr(error, "errno", None) == errno.ENOSPC:
        return InputError(
            "repo_id", f"the disk of {folder} is full", "Make room; what is downloaded is kept."
        )
    if isinstance(error, errors.GatedRepoError):
        return InputError(
            "repo_id",
            f"{repo_id} is gated: its owner wants to know who downloads it",
            f"Accept its license at https://huggingface.co/{repo_id}, make a token there, and give it "
            "with `hf auth login` or in the environment variable HF_TOKEN.",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return InputError(
            "repo_id",
            f"{repo_id} is not on the hub, or it is private",
            "Check the spelling; a private one needs `hf auth login`.",
        )
    if isinstance(error, errors.HfHubHTTPError):
        said = getattr(getattr(error, "response", None), "status_code", "an error")
        return InputError(
            "repo_id", f"the hub answered {said} for {repo_id}", "Try again later; nothing is lost."
        )
    return InputError(
        "repo_id",
        f"the hub cannot be reached ({type(error).__name__})",
        "Connect to the internet and run again; it goes on where it stopped. Or choose files that you "
        "have.",
    )
