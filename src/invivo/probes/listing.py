"""``invivo list``: the probes that a pattern means, with the types of their arguments on demand."""

from __future__ import annotations

from collections.abc import Iterator

from invivo.diagnostics import SourceFile, Span
from invivo.errors import NotSupportedError
from invivo.probes import OF_RETURNS, expand, find, names, providers
from invivo.probes.provider import Facts, Listed, Provider
from invivo.target import NoSuchProbeError, ProbeSpec


def list_probes(pattern: str, facts: Facts, *, verbose: bool = False) -> Iterator[Listed]:
    """Yield the probes that match a pattern, sorted within their provider.

    ``tracepoint:sched:*`` is an attach point with wildcards; a text without colon is looked for
    in the names of all the kernel's probes (``*TEXT*``), and an empty one means all.  Probes in
    user space are listed only if their provider or a file is named, those of returns only if
    their provider is.  With ``verbose`` each comes with the C types and names of its arguments.
    """
    head = pattern.partition(":")[0]
    asked_for = find(head) is not None
    for provider, fields in _queries(pattern, facts):
        if provider.listing is None:
            continue
        try:
            yield from provider.listing(fields, facts, verbose)
        except NotSupportedError:
            # A kernel that does not tell its functions still tells its tracepoints.
            if asked_for:
                raise


def why_nothing(pattern: str, facts: Facts) -> NoSuchProbeError | None:
    """Return what a program with a pattern as its probe would be told, if that says more than that nothing matches."""
    head, *fields = pattern.split(":")
    if not fields or not fields[0] or names.is_wildcard(head):
        return None
    try:
        expand(ProbeSpec(head, tuple(fields), Span(SourceFile("", pattern), 0, len(pattern)), pattern), facts)
    except NoSuchProbeError as problem:
        return problem if problem.hint or not problem.malformed or find(head) is None else None
    return None


def _queries(pattern: str, facts: Facts) -> Iterator[tuple[Provider, tuple[str, ...]]]:
    head, *rest = pattern.split(":")
    if not rest:
        named = find(head) if head else None
        if named is not None:
            yield named, ("*",)
            return
        text = head if names.is_wildcard(head) else f"*{head}*"
        for provider in providers():
            if provider.name in OF_RETURNS:
                continue
            if not provider.user_space:
                yield provider, (text,)
            elif facts.pid is not None:
                yield provider, ("*", text)  # in all files of the process
        return
    fields = tuple(rest) if any(rest) else ("*",)
    if names.is_wildcard(head):
        matches = names.matcher(head)
        for provider in providers():
            if not matches(provider.name) or provider.name in OF_RETURNS:
                continue
            if not provider.user_space or _names_file(fields, facts):
                yield provider, fields
        return
    exact = find(head)
    if exact is not None:
        yield exact, fields


def _names_file(fields: tuple[str, ...], facts: Facts) -> bool:
    """Whether the pattern's first part is a file, so that functions of programs are meant."""
    return facts.pid is not None or ("/" in fields[0] and bool(facts.binaries(fields[0])))
