"""The CPythons that are proven, as far as this machine has them: Debian's, and those that pyenv has installed."""

from __future__ import annotations

import os
from glob import glob

import pytest

DEBIAN = "/usr/bin/python3.11"
_PROVEN = ("3.11", "3.12", "3.13")


def installed(*versions: str) -> list[str]:
    root = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    return [path for version in versions for path in sorted(glob(f"{root}/versions/{version}.*/bin/python"))]


def _label(path: str) -> str:
    return path if path == DEBIAN else path.split("/")[-3]


debian_only = pytest.mark.skipif(
    not os.path.exists(DEBIAN) and not os.environ.get("CI"), reason=f"there is no {DEBIAN}"
)
INTERPRETERS = [
    pytest.param(DEBIAN, id=DEBIAN, marks=debian_only),
    *[pytest.param(path, id=_label(path)) for path in installed(*_PROVEN)],
]
