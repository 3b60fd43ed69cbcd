"""The whole of a program: C definitions, config, imports, declarations, macros, functions and probes."""

from __future__ import annotations

import re
from typing import NoReturn

from invivo.diagnostics import Code, Diagnostics, SourceFile, Span
from invivo.lang import ast
from invivo.lang.bt.attach_points import PROBE_HEADER, AttachPointError, split_attach_point
from invivo.lang.bt.c_statements import definition_end, directive_end
from invivo.lang.bt.config import canonical_key
from invivo.lang.parse.cursor import Cursor, Failure
from invivo.lang.parse.expressions import parse_expression, parse_type
from invivo.lang.parse.literals import integer, text_string
from invivo.lang.parse.statements import parse_block
from invivo.lang.parse.types import TAGS, is_reserved
from invivo.record import replace

_MAP_KINDS = ("hash", "lruhash", "percpuhash", "percpulruhash")

Item = ast.CStatement | ast.Config | ast.Import | ast.MapDeclaration | ast.Macro | ast.Subprogram | ast.Probe


def parse_program(source: SourceFile, parameters: tuple[str, ...], diagnostics: Diagnostics) -> ast.Script:
    """Read a program; mistakes go to ``diagnostics``, and reading goes on at the next item."""
    c = Cursor(source, diagnostics, parse_block, parameters)
    text = source.text
    begin = 1 if text.startswith("\ufeff") else 0
    if text.startswith("#!", begin):
        begin = directive_end(text, begin)
    c.jump(begin)
    items: list[Item] = []
    while c.kind != "end":
        start = c.start
        try:
            item = _item(c, items)
        except Failure as failure:
            diagnostics.found.append(failure.diagnostic)
            _recover(c, start, failure)
        else:
            items.append(item)
    return _script(source, items)


def _script(source: SourceFile, items: list[Item]) -> ast.Script:
    return ast.Script(
        Span(source, 0, len(source.text)),
        source,
        tuple(item for item in items if isinstance(item, ast.CStatement)),
        next((item for item in items if isinstance(item, ast.Config)), None),
        tuple(item for item in items if isinstance(item, ast.Import)),
        tuple(item for item in items if isinstance(item, ast.MapDeclaration)),
        tuple(item for item in items if isinstance(item, ast.Macro)),
        tuple(item for item in items if isinstance(item, ast.Subprogram)),
        tuple(item for item in items if isinstance(item, ast.Probe)),
    )


def _item(c: Cursor, before: list[Item]) -> Item:
    word = c.text
    if word == "#":
        return _directive(c, before)
    if c.kind == "name":
        kind, text, _ = c.following()
        if word in TAGS and (kind == "name" or text == "{"):
            return _definition(c, before)
        if word == "config" and text in ("=", "{"):
            return _config(c, before)
        if word == "import" and kind == "string":
            return _import(c, before)
        if word == "let" and kind in ("map", "variable"):
            return _map_declaration(c)
        if word == "macro" and kind == "name":
            return _macro(c)
        if word == "fn" and kind == "name":
            return _subprogram(c)
    if word == "}":
        c.fail("unexpected '}'", "no block is open here", resume=c.end)
    return _probe(c)


def _recover(c: Cursor, start: int, failure: Failure) -> None:
    """Go to where reading can begin again: after the item's last brace, or at the next probe."""
    depth = len(c.braces)
    c.depth = 0
    c.braces.clear()
    if failure.resume is not None:
        c.jump(failure.resume)
        return
    header = re.compile(PROBE_HEADER)
    text = c.source.text
    if c.start == start and c.text != "{":
        c.advance()
    while c.kind != "end":
        if c.kind == "name" and text[c.start - 1] == "\n" and header.match(text, c.start):
            return
        if c.text == "{":
            depth += 1
        elif c.text == "}":
            depth -= 1
            if depth <= 0:
                c.advance()
                return
        elif c.text == ";" and depth == 0:
            c.advance()
            return
        c.advance()


# -- C, config, imports: before the probes -----------------------------------------------------


def _directive(c: Cursor, before: list[Item]) -> ast.CStatement:
    end = directive_end(c.source.text, c.start)
    statement = ast.CStatement(Span(c.source, c.start, end), c.source.text[c.start : end].rstrip())
    if statement.text.endswith("\\"):
        last = end
        while c.source.text[:last].endswith("\\") and last < len(c.source.text):
            last = directive_end(c.source.text, last + 1)
        c.fail(
            "a preprocessor line cannot be continued",
            "write it in one line",
            span=Span(c.source, c.start + len(statement.text) - 1, c.start + len(statement.text)),
            code=Code.BAD_DECLARATION,
            resume=last,
        )
    if statement.text.startswith("#!"):
        c.fail("'#!' begins the first line of a script or none", span=statement.span, resume=end)
    c.jump(end)
    _check_order(c, before, statement, "C definitions must appear before probes and functions")
    return statement


def _definition(c: Cursor, before: list[Item]) -> ast.CStatement:
    text, start = c.source.text, c.start
    end = definition_end(text, start)
    if end is None:
        brace = text.find("{", start)
        opened = Span(c.source, brace, brace + 1) if brace >= 0 else c.token_span()
        c.fail("expected '}'", f"this {c.text} is not closed", span=opened, resume=len(text))
    statement = ast.CStatement(Span(c.source, start, end), text[start:end])
    c.jump(end)
    _check_order(c, before, statement, "C definitions must appear before probes and functions")
    return statement


def _check_order(c: Cursor, before: list[Item], item: Item, message: str) -> None:
    """Report an item that comes too late. It is complete, so reading goes on after it."""
    early = (ast.CStatement,) if isinstance(item, ast.CStatement) else (ast.CStatement, ast.Config, ast.Import)
    if any(not isinstance(other, early) for other in before):
        c.diagnostics.error(Code.SYNTAX, item.span, message)


def _config(c: Cursor, before: list[Item]) -> ast.Config:
    start = c.start
    c.advance()
    c.expect("=")
    opened = c.start
    c.expect("{")
    c.braces.append(opened)
    entries: list[ast.ConfigEntry] = []
    while c.text != "}":
        entries.append(_config_entry(c))
        if c.text != "}" and not c.accept(";"):
            if c.kind in ("end", "bad"):
                c.expect("}", opened)
            c.fail("expected ';'", "config values are separated by semicolons", span=c.gap(), code=Code.BAD_CONFIG)
    c.braces.pop()
    c.advance()
    config = ast.Config(c.span(start), tuple(entries))
    if any(isinstance(item, ast.Config) for item in before):
        c.diagnostics.error(Code.BAD_CONFIG, config.span, "duplicate config block")
    else:
        _check_order(c, before, config, "config must appear before probes and functions")
    return config


def _config_entry(c: Cursor) -> ast.ConfigEntry:
    start = c.start
    key, _ = c.expect_name("the name of a config value")
    c.expect("=")
    value: str | int | bool
    match c.kind:
        case "string":
            value = text_string(c.text, c.token_span(), c.diagnostics)
        case "number":
            value = integer(c.text, c.token_span(), c.diagnostics).value
        case "name":
            value = {"true": True, "false": False}.get(c.text, c.text)
        case _:
            c.fail_expected("a string, an integer, true, false or a word")
    c.advance()
    return ast.ConfigEntry(c.span(start), canonical_key(key), value)


def _import(c: Cursor, before: list[Item]) -> ast.Import:
    start = c.start
    c.advance()
    path = text_string(c.text, c.token_span(), c.diagnostics)
    c.advance()
    import_ = ast.Import(c.span(start), path)
    _end_item(c)
    _check_order(c, before, import_, "root imports must appear before probes and functions")
    return import_


def _end_item(c: Cursor) -> None:
    if not c.accept(";"):
        c.fail("expected ';'", span=c.gap(), resume=c.start)


# -- declarations, macros, functions -----------------------------------------------------------


def _map_declaration(c: Cursor) -> ast.MapDeclaration:
    start = c.start
    c.advance()
    name = c.text
    if c.kind == "variable":
        c.fail("root-level let statements need to be map declarations, e.g. let @a = hash(2);", span=c.token_span())
    c.advance()
    c.expect("=")
    kind, kind_span = c.expect_name("a map type")
    opened = c.start
    c.expect("(")
    if c.kind != "number":
        c.fail_expected("the number of entries")
    max_entries = integer(c.text, c.token_span(), c.diagnostics).value
    c.advance()
    c.expect(")", opened)
    if kind not in _MAP_KINDS:
        c.diagnostics.error(
            Code.BAD_DECLARATION,
            kind_span,
            f"Invalid bpf map type: {kind}",
            f"Valid map types: {', '.join(_MAP_KINDS)}",
        )
    declaration = ast.MapDeclaration(c.span(start), name, kind, max_entries)
    c.accept(";")
    return declaration


def _macro(c: Cursor) -> ast.Macro:
    start = c.start
    c.advance()
    name, _ = c.expect_name("the name of the macro")
    opened = c.start
    c.expect("(")
    parameters: list[str] = []
    while c.text != ")":
        parameters.append(_macro_parameter(c, parameters))
        if not c.accept(","):
            break
    c.expect(")", opened)
    body = parse_block(c)
    return ast.Macro(c.span(start), name, tuple(parameters), body)


def _macro_parameter(c: Cursor, before: list[str]) -> str:
    if c.kind not in ("variable", "map", "name"):
        c.fail_expected("a parameter: $variable, @map or name")
    parameter, span = c.text, c.token_span()
    if is_reserved(parameter):
        c.fail(f"builtin '{parameter}' can't be used as a macro argument", span=span, code=Code.BAD_MACRO)
    if parameter in before:
        c.fail(f"parameter '{parameter}' is given twice", span=span, code=Code.BAD_MACRO)
    c.advance()
    return parameter


def _subprogram(c: Cursor) -> ast.Subprogram:
    start = c.start
    c.advance()
    name, _ = c.expect_name("the name of the function")
    opened = c.start
    c.expect("(")
    parameters: list[ast.Parameter] = []
    while c.text != ")":
        parameters.append(_parameter(c))
        if not c.accept(","):
            break
    c.expect(")", opened)
    c.expect(":")
    result = parse_type(c)
    body = parse_block(c)
    return ast.Subprogram(c.span(start), name, tuple(parameters), result, body)


def _parameter(c: Cursor) -> ast.Parameter:
    if c.kind != "variable":
        c.fail_expected("a parameter: $name : type")
    start, name = c.start, c.text[1:]
    c.advance()
    c.expect(":")
    type_ = parse_type(c)
    return ast.Parameter(c.span(start), name, type_)


# -- probes ------------------------------------------------------------------------------------


def _probe(c: Cursor) -> ast.Probe:
    start = c.start
    points = [_attach_points(c)]
    while c.accept(","):
        if c.text in ("{", "/"):
            break
        points.append(_attach_points(c))
    predicate = None
    if c.accept("/"):
        predicate = parse_expression(c)
        if c.text != "/":
            c.fail_expected("'/' after the predicate", "a predicate stands between two slashes, and then its block")
        c.advance()
    if c.text != "{":
        _fail_header(c, points, predicate)
    body = parse_block(c)
    return ast.Probe(c.span(start), tuple(points), predicate, body)


def _fail_header(c: Cursor, points: list[ast.AttachPoint], predicate: ast.Expr | None) -> NoReturn:
    hint = None
    if predicate is None and c.kind != "end":
        if "/" in points[-1].text:
            hint = "put a space before the '/' that begins a predicate"
        elif c.kind in ("name", "string"):
            hint = "attach points are separated by commas, and quotes protect spaces"
    expected = "'{'" if predicate is not None else "'{', ',' or a predicate"
    c.fail_expected(expected, hint)


def _attach_points(c: Cursor) -> ast.AttachPoint:
    """An attach point, and those that take its place where it is not: ``fentry:f or kprobe:f``."""
    first = _attach_point(c)
    others: list[ast.AttachPoint] = []
    while c.kind == "name" and c.text == "or":
        c.advance()
        others.append(_attach_point(c))
    return replace(first, alternatives=tuple(others)) if others else first


def _attach_point(c: Cursor) -> ast.AttachPoint:
    if c.text == "{":
        message, hint = "expected a probe, found '{'", "a probe is written provider:target { ... }"
        c.fail(message, hint, code=Code.BAD_ATTACH_POINT, classic="No attach points for probe")
    if c.text == "/*" or (c.kind in ("end", "op") and c.text in ("", "{", ",", "/", ";", ")", "]", "=")):
        c.fail_expected("a probe", "a probe is written provider:target { ... }")
    text, start = c.source.text, c.start
    try:
        written = split_attach_point(text, start, c.parameters)
    except AttachPointError as error:
        c.fail(error.message, error.hint, span=Span(c.source, error.start, error.end), code=Code.BAD_ATTACH_POINT)
    span = Span(c.source, start, written.end)
    if not written.parts[0]:
        message = "expected the name of a provider before ':'"
        c.fail(message, span=span, code=Code.BAD_ATTACH_POINT, classic="No attach points for probe")
    c.jump(written.end)
    return ast.AttachPoint(span, written.expanded, written.parts[0], written.parts[1:], written.label)
