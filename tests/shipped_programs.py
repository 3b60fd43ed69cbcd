"""Programs of Debian's packages, for tests that trace them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from guest.packages import MissingError


def fetched(fetch: Callable[[str], Path], package: str) -> Path:
    """Return a package's files, or leave the test: where CI runs, a missing one is a failure."""
    try:
        return fetch(package)
    except MissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
