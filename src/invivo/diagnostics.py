"""Mistakes in a user's program: where, what, and what to do; and how they are shown."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from invivo.enums import Enum
from invivo.record import Record


class SourceFile(Record, eq=False):
    """A program's text and the name that diagnostics give it (``script.bt``, ``stdin``)."""

    name: str
    text: str

    def line_starts(self) -> list[int]:
        """Return the offset of the first character of each line."""
        starts = [0]
        position = self.text.find("\n")
        while position >= 0:
            starts.append(position + 1)
            position = self.text.find("\n", position + 1)
        return starts

    def line(self, number: int) -> str:
        """Return the text of a line (counted from 1), without its line break."""
        starts = self.line_starts()
        start = starts[number - 1]
        end = self.text.find("\n", start)
        return self.text[start : end if end >= 0 else len(self.text)].rstrip("\r")


class Span(Record):
    """A half-open range of characters of one source: ``source.text[start:end]``.

    ``origin``: the call of the macro whose text this is, if it came into the program by one.
    """

    source: SourceFile
    start: int
    end: int
    origin: Span | None = None

    def location(self) -> Location:
        """Return line and column numbers (from 1; the end column is exclusive)."""
        starts = self.source.line_starts()
        line = bisect_right(starts, self.start)
        last = max(self.start, self.end - 1)
        end_line = bisect_right(starts, last)
        return Location(line, self.start - starts[line - 1] + 1, end_line, last - starts[end_line - 1] + 2)

    def to(self, other: Span) -> Span:
        """Return the span from the start of this one to the end of the other."""
        return Span(self.source, self.start, max(self.end, other.end), self.origin)

    def origins(self) -> tuple[Span, ...]:
        """Return the calls of macros that brought this text into the program, the innermost first."""
        found: list[Span] = []
        span = self.origin
        while span is not None:
            found.append(span)
            span = span.origin
        return tuple(found)

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]


class Location(Record):
    """A span in lines and columns, all from 1; ``end_column`` is exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int


class Severity(Enum):
    ERROR = "error"
    WARNING = "warning"


class Code(Enum):
    """The stable name of a kind of mistake: ``error[unknown-function]``.

    Every code has a golden test and a paragraph in ``docs/language/diagnostics.md``.
    """

    # Reading the text.
    SYNTAX = "syntax"
    BAD_LITERAL = "bad-literal"
    BAD_ATTACH_POINT = "bad-attach-point"
    BAD_CONFIG = "bad-config"
    BAD_DECLARATION = "bad-declaration"
    BAD_IMPORT = "bad-import"
    BAD_OPTION = "bad-option"
    MISSING_PARAMETER = "missing-parameter"
    NOT_SUPPORTED = "not-supported"
    # Probes.
    NO_MATCH = "no-match"
    TOO_MANY_PROBES = "too-many-probes"
    # Names.
    UNKNOWN_FUNCTION = "unknown-function"
    UNKNOWN_NAME = "unknown-name"
    UNKNOWN_VARIABLE = "unknown-variable"
    UNKNOWN_TYPE = "unknown-type"
    UNKNOWN_FIELD = "unknown-field"
    UNKNOWN_SYMBOL = "unknown-symbol"
    SHADOWED_VARIABLE = "shadowed-variable"
    UNUSED_MAP = "unused-map"
    # Types.
    TYPE_MISMATCH = "type-mismatch"
    KEY_MISMATCH = "key-mismatch"
    BAD_CAST = "bad-cast"
    BAD_OPERAND = "bad-operand"
    BAD_ARGUMENT = "bad-argument"
    BAD_FORMAT = "bad-format"
    BAD_INDEX = "bad-index"
    BAD_ASSIGNMENT = "bad-assignment"
    BAD_MACRO = "bad-macro"
    NOT_CONSTANT = "not-constant"
    FAILED = "failed"
    AGGREGATION = "aggregation"
    # Meaning.
    NOT_HERE = "not-here"
    UNSAFE = "unsafe"
    LIMIT = "limit"
    UNREACHABLE = "unreachable"
    DISCARDED = "discarded"
    DEPRECATED = "deprecated"
    PROGRAM_TOO_LARGE = "program-too-large"


class Diagnostic(Record):
    """One mistake. ``notes`` are further places that explain it; ``classic`` is what the neighbour says, if it
    says something else."""

    code: Code
    span: Span | None
    message: str
    hint: str | None = None
    severity: Severity = Severity.ERROR
    notes: tuple[Note, ...] = ()
    classic: str = ""


class Note(Record):
    span: Span
    message: str


class CompileError(Exception):
    """A stage found mistakes and stopped. Carries every diagnostic found until then."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(d.message for d in self.diagnostics))


class Diagnostics:
    """Collects the diagnostics of one compilation, in the order they were found."""

    def __init__(self) -> None:
        self.found: list[Diagnostic] = []

    def error(
        self,
        code: Code,
        span: Span | None,
        message: str,
        hint: str | None = None,
        notes: tuple[Note, ...] = (),
        classic: str = "",
    ) -> None:
        self.found.append(Diagnostic(code, span, message, hint, Severity.ERROR, notes, classic))

    def warning(
        self, code: Code, span: Span | None, message: str, hint: str | None = None, *, classic: str = ""
    ) -> None:
        self.found.append(Diagnostic(code, span, message, hint, Severity.WARNING, classic=classic))

    @property
    def has_errors(self) -> bool:
        return any(d.severity is Severity.ERROR for d in self.found)

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        return tuple(d for d in self.found if d.severity is Severity.WARNING)

    def stop_on_errors(self) -> None:
        """Raise `CompileError` with everything found, if any of it is an error."""
        if self.has_errors:
            raise CompileError(self.found)
