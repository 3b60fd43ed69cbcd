"""A C header, taken apart into preprocessor lines and declarations of types; all else is left out."""

from __future__ import annotations

import re
from typing import Final

from invivo.diagnostics import SourceFile, Span
from invivo.lang import ast
from invivo.lang.bt.c_statements import definition_end, directive_end
from invivo.lang.cdecl.headers import OPTION
from invivo.record import replace

_SKIPPED: Final = r"(?s:(?:\s|//[^\n]*|/\*.*?\*/)*+)"
_TYPE: Final = r"(?:struct|union|enum)\b[^;{()=]*\{"
_PIECE: Final = r"//[^\n]*|/\*(?s:.*?)\*/|\"(?:[^\"\\\n]|\\.)*\"|[{};]"
_EXTERN_C: Final = r"extern\s+\"C\"\s*\{|\}"


def header_statements(source: SourceFile) -> list[ast.CStatement]:
    """Return what a header declares, in order: lines that begin with ``#``, types, typedefs."""
    text = source.text
    statements: list[ast.CStatement] = []
    position = 0
    while True:
        skipped = re.compile(_SKIPPED).match(text, position)
        position = skipped.end() if skipped else position
        if position >= len(text):
            return statements
        start = position
        if text[start] == "#":
            position = _line_end(text, start)
        elif extern := re.compile(_EXTERN_C).match(text, start):
            position = extern.end()
            continue
        elif re.compile(_TYPE).match(text, start):
            position = definition_end(text, start) or len(text)
        else:
            position = _declaration_end(text, start)
            if not re.compile(r"typedef\b").match(text, start):
                continue
        statements.append(ast.CStatement(Span(source, start, position), text[start:position]))


def with_includes(script: ast.Script, paths: tuple[str, ...]) -> ast.Script:
    """Return a script that begins by including headers."""
    source = SourceFile(OPTION, "".join(f"#include <{path}>\n" for path in paths))
    return replace(script, c_statements=(*header_statements(source), *script.c_statements))


def _line_end(text: str, start: int) -> int:
    end = directive_end(text, start)
    while text[start:end].rstrip("\r").endswith("\\") and end < len(text):
        end = directive_end(text, end + 1)
    return end


def _declaration_end(text: str, start: int) -> int:
    """The end of a prototype, a variable or a function with its body."""
    depth = 0
    for piece in re.compile(_PIECE).finditer(text, start):
        if piece[0] == "{":
            depth += 1
        elif piece[0] == "}":
            depth -= 1
            if depth == 0 and not re.compile(r"typedef\b").match(text, start):
                return piece.end()
        elif piece[0] == ";" and depth == 0:
            return piece.end()
    return len(text)
