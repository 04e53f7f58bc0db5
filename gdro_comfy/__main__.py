"""``python -m gdro_comfy`` is ``gdro-comfy``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
