"""The guests come last: what ran nowhere can be said only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from guest.summary import Summary


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.pluginmanager.has_plugin("guests"):
        config.pluginmanager.register(Summary(config.getoption("-k")), "guests")
    here = Path(__file__).parent
    items.sort(key=lambda item: here in item.path.parents)
