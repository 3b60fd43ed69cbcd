"""``python -m invivo``."""

from __future__ import annotations

from invivo.cli.main import main

if __name__ == "__main__":
    main()
