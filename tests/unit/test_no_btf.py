"""A kernel without BTF: one clear line, what to do, and no trace half begun."""

from __future__ import annotations

import pytest

from fixture_target import FixtureTarget
from invivo.diagnostics import SourceFile
from invivo.errors import NotSupportedError
from invivo.ir.types import Struct
from invivo.pipeline import compile_source
from invivo.target import Scope


class _WithoutTypes(FixtureTarget):
    def struct(self, keyword: str, name: str) -> Struct | None:
        return None


def test_following_a_command_needs_types() -> None:
    source = SourceFile("stdin", "interval:s:1 { exit(); }")
    with pytest.raises(NotSupportedError, match=r"the kernel's types \(BTF\)") as refused:
        compile_source(source, _WithoutTypes(Scope.TREE))
    assert refused.value.hint is not None
    assert "CONFIG_DEBUG_INFO_BTF" in refused.value.hint


def test_what_needs_no_types_compiles() -> None:
    source = SourceFile("stdin", "interval:s:1 { @ = count(); exit(); }")
    image = compile_source(source, _WithoutTypes(Scope.ALL)).image
    assert [program.name for program in image.programs] == ["probe0"]
