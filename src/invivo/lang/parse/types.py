"""Types in a program's text, and how they are told from expressions."""

from __future__ import annotations

from typing import Final

from invivo.lang import ast
from invivo.lang.parse.cursor import Cursor
from invivo.lang.parse.literals import integer

TAGS: Final = ("struct", "union", "enum")

# What C spells in several words, by the sorted words without "int" and "signed" beside others.
_WORDS: Final = ("signed", "unsigned", "char", "short", "int", "long")
_SEVERAL_WORDS: Final = {
    ("char",): "int8",
    ("char", "unsigned"): "uint8",
    ("short",): "int16",
    ("short", "unsigned"): "uint16",
    (): "int32",
    ("unsigned",): "uint32",
    ("long",): "int64",
    ("long", "unsigned"): "uint64",
    ("long", "long"): "int64",
    ("long", "long", "unsigned"): "uint64",
}

RESERVED: Final = frozenset(("args", "ctx", "kstack", "nsecs", "pid", "tid", "ustack")) | {
    f"__builtin_{name}"
    for name in ("comm", "cpid", "cpu", "dw_ustack", "elapsed", "func", "ncpus", "probe", "retval", "usermode")
}

# These values are macros where the language comes from, and so could be the names of types: `(cpu) - 1`
# would be a cast. Nobody means that.
_VALUES: Final = (
    *("cgroup", "comm", "config", "cpid", "cpu", "curtask", "elapsed", "func", "gid", "has_cpid", "jiffies"),
    *("leader_comm", "leader_tid", "ncpus", "numaid", "pcomm", "ppid", "probe", "probetype", "rand", "retval"),
    *("traced", "uid", "usermode", "username"),
)
_WORDS_OF_EXPRESSIONS: Final = ("comptime", "false", "if", "offsetof", "sizeof", "true", "typeinfo", "typeof")
_NO_TYPES: Final = RESERVED.union(_VALUES, _WORDS_OF_EXPRESSIONS)


def is_reserved(name: str) -> bool:
    """Whether a name always means a builtin value: ``pid``, ``arg0``, ``args`` ..."""
    return name in RESERVED or _is_numbered(name)


def _is_numbered(name: str) -> bool:
    return name.removeprefix("s")[:3] == "arg" and name[-1].isdigit() and name.removeprefix("s")[3:].isdigit()


def type_ahead(c: Cursor) -> int | None:
    """Return where the type that begins at the current token ends; None if none does."""
    if c.kind != "name":
        return None
    position = c.end
    if c.text in TAGS:
        kind, _, position = c.following()
        if kind != "name":
            return None
    elif c.text in _NO_TYPES or _is_numbered(c.text):
        return None
    several = c.text in _WORDS
    while True:
        kind, text, end = c.following(position)
        if text == "[":
            kind, text, end = c.following(end)
            if kind == "number":
                _, text, end = c.following(end)
            if text != "]":
                return None
        elif text != "*" and not (several and text in _WORDS):
            return position
        position = end


def parse_plain_type(c: Cursor) -> ast.TypeExpr:
    """Read a type without ``typeof``: a name or ``struct x``, then any number of ``*`` and ``[n]``."""
    start = c.start
    type_: ast.TypeExpr = _named(c)
    length = 0
    while c.text in ("*", "["):
        length += 1
        c.check_chain(length)
        if c.accept("*"):
            type_ = ast.PointerType(c.span(start), type_)
            continue
        opened = c.start
        c.advance()
        count: int | None = None
        if c.kind == "number":
            count = integer(c.text, c.token_span(), c.diagnostics).value
            c.advance()
        c.expect("]", opened)
        type_ = ast.ArrayType(c.span(start), type_, count)
    return type_


def _named(c: Cursor) -> ast.NamedType:
    if c.kind != "name":
        c.fail_expected("a type")
    start, name = c.start, c.text
    if name in TAGS:
        c.advance()
        tag, _ = c.expect_name(f"the name of the {name}")
        return ast.NamedType(c.span(start), name, tag)
    if is_reserved(name):
        c.fail(f"expected a type, found the builtin '{name}'")
    c.advance()
    if name not in _WORDS or c.text not in _WORDS:
        return ast.NamedType(c.span(start), "", name)
    words = [name]
    while c.text in _WORDS:
        words.append(c.text)
        c.advance()
    spelled = _SEVERAL_WORDS.get(tuple(sorted(word for word in words if word not in ("int", "signed"))))
    if spelled is None:
        c.fail(f"there is no type '{' '.join(words)}'", span=c.span(start))
    return ast.NamedType(c.span(start), "", spelled)
