"""Run ``gdro-comfy`` as ``python -m gdro_comfy``."""

import sys

from .headless.cli import main

if __name__ == "__main__":
    sys.exit(main())
