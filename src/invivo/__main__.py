"""``python -m invivo``."""

from __future__ import annotations

import sys

from invivo.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
