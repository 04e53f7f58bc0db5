"""Download a diffusers folder from Hugging Face, with progress, cancellation and resumption within a file.

Files are fetched one by one with ``hf_hub_download``: ``snapshot_download`` fetches them in threads, where a
cancellation, which ComfyUI reports only once, would stop one file of up to eight. Old releases of
huggingface_hub have no progress bar per file; with them a cancellation takes effect between files.
"""

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
from .families import FAMILIES, by_pipeline

if TYPE_CHECKING:
    from ..host import Host
    from ..progress import Progress

_INDEX = "model_index.json"
_RECORD = "download.json"
"""Lists the files of a finished download with their sizes."""
_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model")
_GB = 1e9


def download(host: Host, repo_id: str, endpoint: str | None = None) -> Path:
    """Download a model into the host's folder of diffusers models and return its folder.

    Nothing is fetched twice, even after a cancellation or a crash in the middle of a file. A complete
    model needs no network at all.

    Args:
        repo_id: "owner/name".
        endpoint: URL of the hub; None is huggingface.co, or HF_ENDPOINT.

    Raises:
        InputError: there is no such model, it is of an unknown family, or access, network or disk
            space is lacking.
    """
    repo_id = repo_id.strip()
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repo_id) or ".." in repo_id:
        raise InputError(
            "repo_id", f"{repo_id!r} is not a Hugging Face id", "Write it as owner/name, for example "
            "black-forest-labs/FLUX.1-dev.",
        )  # fmt: skip
    folder = host.model_dir("diffusers") / repo_id.replace("/", "--")
    if _complete(folder):
        return folder
    from huggingface_hub import errors

    # The errors of its HTTP library, which differs between versions.
    network_error: Any = errors.HfHubHTTPError.__bases__[0]
    try:
        _fetch(host, repo_id, folder, endpoint)
    except (OSError, network_error) as error:
        raise _input_error(repo_id, folder, error) from error
    return folder


def _complete(folder: Path) -> bool:
    """Return whether a folder has all files of a finished download."""
    try:
        sizes = json.loads((folder / _RECORD).read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _fetch(host: Progress, repo_id: str, folder: Path, endpoint: str | None) -> None:
    """Download the files of a model that are missing, small ones first."""
    from huggingface_hub import HfApi, hf_hub_download

    host.progress(0, 1, f"asking for {repo_id}")
    info = HfApi(endpoint=endpoint).model_info(repo_id, files_metadata=True, timeout=20)
    sizes = {file.rfilename: int(file.size or 0) for file in info.siblings or []}
    if _INDEX not in sizes:
        raise InputError(
            "repo_id",
            f"{repo_id} is not a model in diffusers' layout (it has no {_INDEX})",
            "Choose one that has, or download its files yourself and choose single files.",
        )
    done, total = 0, 0

    def get(name: str) -> None:
        options: dict[str, Any] = {"revision": info.sha, "local_dir": folder, "endpoint": endpoint}
        if "tqdm_class" in inspect.signature(hf_hub_download).parameters:
            options["tqdm_class"] = _progress_bar(lambda size: _report(host, done + size, total))
        host.check_cancelled()
        hf_hub_download(repo_id, name, **options)

    get(_INDEX)
    index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    _check_family(repo_id, index)
    files = {name: size for name, size in sizes.items() if _is_needed(name, index)}
    total = sum(files.values())
    missing = sum(size for name, size in files.items() if not _is_there(folder / name, size))
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise InputError(
            "repo_id",
            f"{repo_id} still needs {missing / _GB:.1f} GB, and the disk of {folder} has "
            f"{free / _GB:.1f} GB free",
            "Make room there; what is downloaded already is kept.",
        )
    for name, size in sorted(files.items(), key=lambda item: item[1]):
        if not _is_there(folder / name, size):
            get(name)
        done += size
        _report(host, done, total)
    write_json(folder / _RECORD, {"repo_id": repo_id, "revision": info.sha, "files": files})


def _is_there(path: Path, size: int) -> bool:
    """Return whether a file has been downloaded completely."""
    return path.is_file() and path.stat().st_size == size


def _report(host: Progress, done: int, total: int) -> None:
    """Report the bytes downloaded so far, and stop if the user asks to."""
    host.check_cancelled()
    host.progress(done // 1_000_000, max(1, total // 1_000_000), "downloading, MB")


def _check_family(repo_id: str, index: dict[str, Any]) -> None:
    """Raise ``InputError`` unless the pipeline is of a known family."""
    pipeline_name = index.get("_class_name")
    if by_pipeline(pipeline_name) is None:
        raise InputError(
            "repo_id",
            f"{repo_id} is a {pipeline_name}",
            f"Choose a model of: {', '.join(family.title for family in FAMILIES)}.",
        )


def _is_needed(name: str, index: dict[str, Any]) -> bool:
    """Return whether a file belongs to a component; second copies, pickles and images do not."""
    part, _, file = name.rpartition("/")
    if not part:
        return name == _INDEX
    value = index.get(part)
    used = isinstance(value, list) and len(value) == 2 and value[0] is not None
    variant = re.search(r"\.(fp16|bf16|fp32|non_ema)[.-]", file)
    return used and not variant and any(fnmatch(file, pattern) for pattern in _PATTERNS)


def _progress_bar(report: Callable[[int], None]) -> type:
    """Return a class of silent progress bars that report the bytes of a file downloaded so far.

    ``report`` may raise to stop the download.
    """
    from tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": True})
            self.size = int(kwargs.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            self.size += int(n or 0)
            report(self.size)

    return Bar


def _input_error(repo_id: str, folder: Path, error: BaseException) -> InputError:
    """Return what the user can do about an error of the hub's library or of the disk."""
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
        status = getattr(getattr(error, "response", None), "status_code", "an error")
        return InputError(
            "repo_id",
            f"the hub answered {status} for {repo_id}",
            "Try again later; nothing is lost.",
        )
    return InputError(
        "repo_id",
        f"the hub cannot be reached ({type(error).__name__})",
        "Connect to the internet and run again; the download resumes. Or choose files that you have.",
    )
