"""Another process that writes into a run, for as long as a test needs it."""

import contextlib
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_WRITE = """
import sys
from pathlib import Path
from gdro_comfy.data.run_lock import writing
from gdro_comfy.errors import InputError
try:
    with writing(Path(sys.argv[1])):
        print("writes", flush=True)
        sys.stdin.read()
except InputError as error:
    print(error, flush=True)
"""


@contextlib.contextmanager
def other_process(folder):
    """Start a process that takes the lock; ``says`` is "writes", or the message if it is refused."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITE, str(folder)], cwd=_ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with process:
        try:
            process.says = process.stdout.readline().strip()
            yield process
        finally:
            process.kill()
