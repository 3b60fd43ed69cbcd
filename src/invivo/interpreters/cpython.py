"""CPython 3.11 and later: frames of Python functions, by the thread's state in the process's memory.

The interpreter's state is ``_PyRuntime``, which has a section of its own (``.PyRuntime``).  From there: interpreters,
their threads, the one whose ``native_thread_id`` is the current thread's, its innermost frame, and so on outwards.
Since 3.13 the offsets stand at the start of ``_PyRuntime`` (``_Py_DebugOffsets``); those of 3.11 and 3.12 are here.
All is read with helpers that fail on bad addresses, in loops with a fixed number of turns.

A frame's word: the code object's address in the upper 48 bits, a check of what it has in it (its memory may be another
code object's later), and `ENTRY`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Final

from invivo.events import Frame
from invivo.formats.elf import Elf
from invivo.interpreters import codes_map, processes_map
from invivo.interpreters.record import CODE_KEY, ENTRY, HEADER, Interpreter, Memory, Recognised, Site
from invivo.ir import helpers
from invivo.ir.builder import Builder
from invivo.ir.layout import LossKind, MapSpec, MapType
from invivo.ir.ops import BinaryOp, CompareOp, Kind, Operand, Value
from invivo.stacks import FrameKind

# -- the offsets -------------------------------------------------------------------------------


class At(IntEnum):
    """What stands where in a table: u32 offsets in bytes, in structures of Include/internal/pycore_*.h."""

    INTERPRETERS = 0  # _PyRuntimeState.interpreters.head
    NEXT_INTERPRETER = 1
    THREADS = 2  # PyInterpreterState.threads.head
    NEXT_THREAD = 3
    NATIVE_ID = 4
    CFRAME = 5  # PyThreadState.cframe; 0: there is none
    CURRENT_FRAME = 6  # in _PyCFrame, or in PyThreadState
    FRAME_BYTES = 7  # of _PyInterpreterFrame, up to the last field that is read
    CODE = 8
    PREVIOUS = 9
    OWNER = 10
    IS_ENTRY = 11  # 0: frames on the C stack tell
    C_STACK = 12  # the owner of frames that are on the C stack, between those of two calls of the interpreter
    FILENAME = 13  # in PyCodeObject
    QUALNAME = 14
    FIRST_LINE = 15
    LENGTH = 16  # in PyASCIIObject
    STATE = 17
    ASCII_BYTES = 18  # size of PyASCIIObject: the characters come next
    COMPACT_BYTES = 19  # size of PyCompactUnicodeObject, the same for other characters
    KIND_SHIFT = 20  # the place of ``kind`` in ``state``
    TAG_BITS = 21  # of a reference, to be taken away


_FIELDS: Final = len(At)
_NO_OWNER: Final = 0xFF

_TABLES: Final = {
    # By offsetof() of 3.11.7; the structures of a release do not change.
    (3, 11): (40, 0, 16, 8, 160, 56, 8, 72, 32, 48, 69, 68, _NO_OWNER, 112, 128, 72, 16, 32, 48, 72, 2, 0),
    # Of 3.12.1.
    (3, 12): (40, 0, 72, 8, 144, 56, 0, 72, 0, 8, 70, 0, 3, 112, 128, 68, 16, 32, 40, 56, 2, 0),
}


class _Debug(IntEnum):
    """Places in ``_Py_DebugOffsets``, in words."""

    VERSION = 1
    INTERPRETERS = 5
    NEXT_INTERPRETER = 8
    THREADS = 9
    NEXT_THREAD = 21
    CURRENT_FRAME = 23
    NATIVE_ID = 25
    PREVIOUS = 29
    CODE = 30
    OWNER = 33
    FILENAME = 35
    QUALNAME = 37
    FIRST_LINE = 39
    STATE = 68
    LENGTH = 69
    ASCII_BYTES = 70


_COOKIE: Final = b"xdebugpy"
_DEBUG_WORDS: Final = 71
_SECTION: Final = ".PyRuntime"
_FRAME_ROOM: Final = 128
_MOST_OFFSET: Final = 1 << 24
_UTF8_BYTES: Final = 16  # PyCompactUnicodeObject has ``utf8_length`` and ``utf8`` more than PyASCIIObject, since 3.12


def is_candidate(path: str) -> bool:
    return "python" in path.rpartition("/")[2]


def recognise(elf: Elf) -> Recognised | None:
    """Find the interpreter's state in a program or library. Raises `BadFileError`."""
    section = elf.section(_SECTION)
    if section is None:
        return None
    content = bytes(elf.content(section)[: 8 * _DEBUG_WORDS])
    fields = _debug_table(content) if content.startswith(_COOKIE) else _TABLES.get(_version(elf))
    if fields is None:
        return None
    return Recognised(section.address, struct.pack(f"<{_FIELDS}I", *fields))


def _version(elf: Elf) -> tuple[int, int]:
    """The version by ``Py_Version``, PY_VERSION_HEX: 0x030b02f0. (0, 0) if nothing tells."""
    symbol = elf.symbols().find("Py_Version")
    place = None if symbol is None else elf.file_offset(symbol.address)
    word = b"" if place is None else bytes(elf.whole()[place : place + 4])
    return (word[3], word[2]) if len(word) == 4 else (0, 0)


def _debug_table(content: bytes) -> tuple[int, ...] | None:
    """The table that 3.13 tells itself; None for later versions and for what cannot be right."""
    if len(content) < 8 * _DEBUG_WORDS:
        return None
    words = struct.unpack(f"<{_DEBUG_WORDS}Q", content)
    if words[_Debug.VERSION] >> 16 != 0x030D:
        return None
    ascii_bytes = words[_Debug.ASCII_BYTES]
    known = {at: words[_Debug[at.name]] for at in At if at.name in _Debug.__members__}
    known |= {At.CFRAME: 0, At.IS_ENTRY: 0, At.C_STACK: 3, At.KIND_SHIFT: 2, At.TAG_BITS: 0}
    known[At.COMPACT_BYTES] = ascii_bytes + _UTF8_BYTES
    known[At.FRAME_BYTES] = max(known[At.PREVIOUS] + 8, known[At.CODE] + 8, known[At.OWNER] + 1)
    if known[At.FRAME_BYTES] >= _FRAME_ROOM or max(known.values()) >= _MOST_OFFSET:
        return None
    return tuple(known[at] for at in At)


# -- the maps ----------------------------------------------------------------------------------

_MOST_PROCESSES: Final = 4096
_MOST_CODES: Final = 16384  # those that were not seen for long go first
_TEXT_BYTES: Final = 128
_LONGEST: Final = 124  # bytes of a text that are kept: whole characters of 1, 2 and 4 bytes
_CODE: Final = struct.Struct(f"<IIII{_TEXT_BYTES}s{_TEXT_BYTES}s")  # first line, what the texts are, the texts
_CUT: Final = 1 << 31  # in what a text is: kind, and length << 8
_NO_PREALLOC: Final = 1  # BPF_F_NO_PREALLOC

_PROCESS_BYTES: Final = HEADER.size + 4 * _FIELDS
PROCESSES: Final = MapSpec(processes_map("pystack"), MapType.HASH, 4, _PROCESS_BYTES, _MOST_PROCESSES, _NO_PREALLOC)
CODES: Final = MapSpec(codes_map("pystack"), MapType.LRU_HASH, CODE_KEY.size, _CODE.size, _MOST_CODES)


def is_loop(symbol: str) -> bool:
    return symbol.startswith("_PyEval_EvalFrameDefault")


def name_frame(word: int, value: bytes | None) -> Frame:
    """Return a frame whose ``offset`` is the first line of its function, whose ``module`` the file's name."""
    address, is_entry = word >> 16, bool(word & ENTRY)
    if value is None:
        return Frame(address, "", 0, "", 0, is_entry)
    line, name_is, file_is, _, name, file = _CODE.unpack(value)
    symbol = _text(name, name_is)
    return Frame(address, symbol + ".." if name_is & _CUT else symbol, line, _text(file, file_is), 0, is_entry)


_ENCODINGS: Final = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}


def _text(data: bytes, what: int) -> str:
    encoding = _ENCODINGS.get(what & 7)
    return data[: what >> 8 & 0x7F].decode(encoding, "replace") if encoding else ""


# -- the walk ----------------------------------------------------------------------------------

# The state, in bytes from its start: the process's entry of the map, then
_THREAD: Final = 128
_INTERPRETER: Final = 136
_FRAME: Final = 144
_COUNT: Final = 152
_OUTCOME: Final = 160
_TID: Final = 168
_WORD: Final = 176  # what was read
_KEY: Final = 184
_KIND: Final = 200
_CODE_AT: Final = 208
_TEXTS_AT: Final = (216, 224)  # of the name and of the file's name
_FRAME_BYTES: Final = 232
_CODE_VALUE: Final = _FRAME_BYTES + _FRAME_ROOM + 8
_STACK: Final = _CODE_VALUE + _CODE.size
_MOST_THREADS: Final = 4096
_CHECK_BITS: Final = 15

# Why a walk ended.
_LIMIT: Final = 0
_FOUND: Final = 1
_BOTTOM: Final = 2
_NO_THREAD: Final = 3
_MEMORY: Final = 4


class _State:
    """The walk's state in scratch memory, as the function being written reaches it."""

    def __init__(self, site: Site, place: Callable[[], Memory]) -> None:
        self._site = site
        self._place = place

    def at(self, offset: int) -> Value:
        place = self._place()
        return self._site.b.offset(place.pointer, place.offset + offset)

    def get(self, offset: int, size: int = 8) -> Value:
        place = self._place()
        return self._site.b.load(place.pointer, place.offset + offset, size)

    def set(self, offset: int, value: Operand, size: int = 8) -> None:
        place = self._place()
        self._site.b.store(place.pointer, place.offset + offset, size, value)

    def field(self, at: At) -> Value:
        return self.get(HEADER.size + 4 * at, 4)

    def read(self, address: Operand, failed: str, size: int = 8) -> Value:
        """A number in the traced program's memory."""
        b = self._site.b
        code = b.call(helpers.PROBE_READ_USER, self.at(_WORD), size, address)
        got = b.label("read")
        b.branch(CompareOp.EQ, code, 0, got, failed)
        b.start(got)
        return self.get(_WORD, size)

    def follow(self, pointer: Operand, at: At, failed: str, size: int = 8) -> Value:
        """A member of a structure in the traced program's memory."""
        return self.read(self._site.b.add(pointer, self.field(at)), failed, size)


def walk(site: Site, target: Memory, limit: int) -> None:
    """Store the current thread's Python frames, up to ``limit``, at a place."""
    site.need_map(PROCESSES)
    site.need_map(CODES)
    b = site.b
    capacity = 1 << (limit - 1).bit_length()
    state = _State(site, site.scratch(_STACK + 8 * capacity))
    tgid = b.shift_right(b.call(helpers.GET_CURRENT_PID_TGID), 32)
    key = b.stack_slot(8)
    b.store(key, 0, 8, tgid)
    process = b.call(helpers.MAP_LOOKUP_ELEM, b.map(PROCESSES.name), key, kind=Kind.MAP_VALUE_OR_NULL)
    python, other, done = b.label("python"), b.label("no_python"), b.label("python_done")
    b.branch(CompareOp.NE, process, 0, python, other)
    b.start(other)
    b.zero(target.pointer, target.offset, 16 + 8 * limit)
    b.jump(done)
    b.start(python)
    whole = state.at(0)
    b.zero(whole, 0, _STACK + 8 * capacity)
    b.copy(whole, 0, process, 0, _PROCESS_BYTES)
    _take_thread_id(b, state)
    _find_frames(site, state, limit, capacity)
    outcome, count = state.get(_OUTCOME), state.get(_COUNT)
    whole = state.at(_STACK)
    b.copy(target.pointer, target.offset + 16, whole, 0, 8 * limit)
    b.store(target.pointer, target.offset, 4, count)
    b.store(target.pointer, target.offset + 4, 4, b.shift_right(b.call(helpers.GET_CURRENT_PID_TGID), 32))
    is_full = b.binary(
        BinaryOp.AND, b.compare(CompareOp.EQ, outcome, _LIMIT), b.compare(CompareOp.UGE, state.get(_COUNT), limit)
    )
    failed = b.compare(CompareOp.EQ, state.get(_OUTCOME), _MEMORY)
    b.store(target.pointer, target.offset + 8, 8, b.binary(BinaryOp.OR, failed, is_full))
    b.jump(done)
    b.start(done)


def _take_thread_id(b: Builder, state: _State) -> None:
    """Keep what the current thread is called in its own PID namespace."""
    own, initial, have = b.label("own_namespace"), b.label("initial_namespace"), b.label("thread_id")
    b.branch(CompareOp.NE, state.get(16), 0, own, initial)
    b.start(own)  # struct bpf_pidns_info: u32 pid, u32 tgid; zero for tasks of other namespaces
    b.call_void(helpers.GET_NS_CURRENT_PID_TGID, state.get(8), state.get(16), state.at(_WORD), 8)
    state.set(_TID, state.get(_WORD, 4))
    b.jump(have)
    b.start(initial)
    state.set(_TID, b.mask(b.call(helpers.GET_CURRENT_PID_TGID), 0xFFFFFFFF))
    b.jump(have)
    b.start(have)


def _find_frames(site: Site, state: _State, limit: int, capacity: int) -> None:
    """Find the thread, and walk its frames; a thread that runs no Python has none."""
    b = site.b
    failed, ended = b.label("python_failed"), b.label("python_ended")
    first = state.follow(state.get(0), At.INTERPRETERS, failed)
    state.set(_INTERPRETER, first)
    some = b.label("interpreter")
    b.branch(CompareOp.NE, first, 0, some, ended)  # it has not begun, or has ended
    b.start(some)
    state.set(_THREAD, state.follow(state.get(_INTERPRETER), At.THREADS, failed))
    site.repeat(_MOST_THREADS, lambda turn: _thread_turn(site.b, state))
    lost, walked = b.label("thread_lost"), b.label("thread_found")
    b.branch(CompareOp.EQ, state.get(_OUTCOME), _FOUND, walked, lost)
    b.start(walked)
    state.set(_OUTCOME, _LIMIT)
    # In 3.12 and later each call of the interpreter has a frame more, on the C stack.
    site.repeat(2 * limit + 2, lambda turn: _frame_turn(site.b, state, limit, capacity))
    b.jump(lost)
    b.start(lost)
    b.branch(CompareOp.EQ, state.get(_OUTCOME), _MEMORY, failed, ended)
    b.start(failed)
    state.set(_OUTCOME, _MEMORY)
    site.lose(LossKind.INTERPRETER_MEMORY)
    b.jump(ended)
    b.start(ended)


def _end(b: Builder, state: _State, label: str, outcome: int) -> None:
    b.start(label)
    state.set(_OUTCOME, outcome)
    b.ret(1)


def _thread_turn(b: Builder, state: _State) -> None:
    """Look at one thread, or go on to the next interpreter."""
    failed, none, found = b.label("no_memory"), b.label("no_thread"), b.label("found")
    thread = state.get(_THREAD)
    some, onwards = b.label("thread"), b.label("onwards")
    b.branch(CompareOp.NE, thread, 0, some, onwards)
    b.start(onwards)
    following = state.follow(state.get(_INTERPRETER), At.NEXT_INTERPRETER, failed)
    state.set(_INTERPRETER, following)
    more = b.label("more")
    b.branch(CompareOp.NE, following, 0, more, none)
    b.start(more)
    state.set(_THREAD, state.follow(state.get(_INTERPRETER), At.THREADS, failed))
    b.ret(0)
    b.start(some)
    mine, other = b.label("mine"), b.label("other")
    native = state.follow(thread, At.NATIVE_ID, failed)
    b.branch(CompareOp.EQ, native, state.get(_TID), mine, other)
    b.start(mine)
    holder = b.variable("holder")
    b.set(holder, state.get(_THREAD))
    cframe, direct = b.label("cframe"), b.label("direct")
    b.branch(CompareOp.NE, state.field(At.CFRAME), 0, cframe, direct)
    b.start(cframe)
    b.set(holder, state.follow(state.get(_THREAD), At.CFRAME, failed))
    b.jump(direct)
    b.start(direct)
    frame = state.follow(b.get(holder), At.CURRENT_FRAME, failed)
    state.set(_FRAME, frame)
    b.branch(CompareOp.NE, frame, 0, found, other)  # a thread has a state in each interpreter that it was in
    b.start(other)
    state.set(_THREAD, state.follow(state.get(_THREAD), At.NEXT_THREAD, failed))
    b.ret(0)
    _end(b, state, found, _FOUND)
    _end(b, state, none, _NO_THREAD)
    _end(b, state, failed, _MEMORY)


def _frame_turn(b: Builder, state: _State, limit: int, capacity: int) -> None:
    """Take one frame, and go to the one that called it."""
    failed, bottom, full = b.label("no_memory"), b.label("bottom"), b.label("full")
    frame = state.get(_FRAME)
    some = b.label("frame")
    b.branch(CompareOp.NE, frame, 0, some, bottom)
    b.start(some)
    size = b.bounded(state.field(At.FRAME_BYTES), _FRAME_ROOM)
    code = b.call(helpers.PROBE_READ_USER, state.at(_FRAME_BYTES), size, frame)
    got = b.label("frame_read")
    b.branch(CompareOp.EQ, code, 0, got, failed)
    b.start(got)
    state.set(_FRAME, _member(b, state, At.PREVIOUS, 8))
    boundary, python, skip = b.label("boundary"), b.label("python_frame"), b.label("skip")
    b.branch(CompareOp.EQ, _member(b, state, At.OWNER, 1), state.field(At.C_STACK), boundary, python)
    b.start(boundary)
    count = state.get(_COUNT)
    mark = b.label("mark")
    b.branch(CompareOp.NE, count, 0, mark, skip)
    b.start(mark)
    last = _slot(b, state, b.sub(count, 1), capacity)
    b.store(last, 0, 8, b.binary(BinaryOp.OR, b.load(last, 0, 8), ENTRY))
    b.jump(skip)
    b.start(skip)
    b.ret(0)
    b.start(python)
    room = b.label("room")
    b.branch(CompareOp.ULT, state.get(_COUNT), limit, room, full)
    b.start(room)
    _take_code(b, state, failed)
    entry, tagged = b.variable("entry"), b.label("tagged")
    b.set(entry, 0)
    told = b.label("entry_told")
    b.branch(CompareOp.NE, state.field(At.IS_ENTRY), 0, told, tagged)
    b.start(told)
    b.set(entry, b.mask(_member(b, state, At.IS_ENTRY, 1), ENTRY))
    b.jump(tagged)
    b.start(tagged)
    count = state.get(_COUNT)
    place = _slot(b, state, count, capacity)
    b.store(place, 0, 8, b.binary(BinaryOp.OR, state.get(_KEY), b.get(entry)))
    state.set(_COUNT, b.add(state.get(_COUNT), 1))
    b.ret(0)
    _end(b, state, bottom, _BOTTOM)
    _end(b, state, full, _LIMIT)
    _end(b, state, failed, _MEMORY)


def _member(b: Builder, state: _State, at: At, size: int) -> Value:
    """A member of the frame that was read."""
    return b.load(b.offset(state.at(_FRAME_BYTES), b.bounded(state.field(at), _FRAME_ROOM)), 0, size)


def _slot(b: Builder, state: _State, index: Operand, capacity: int) -> Value:
    return b.offset(state.at(_STACK), b.shift_left(b.bounded(index, capacity), 3))


def _take_code(b: Builder, state: _State, failed: str) -> None:
    """Make the frame's word, in the key, and keep the names if they are not known."""
    reference = _member(b, state, At.CODE, 8)
    state.set(_CODE_AT, b.binary(BinaryOp.AND, reference, b.binary(BinaryOp.XOR, state.field(At.TAG_BITS), -1)))
    state.set(_CODE_VALUE, state.follow(state.get(_CODE_AT), At.FIRST_LINE, failed, 4), 4)
    for place, at in zip(_TEXTS_AT, (At.QUALNAME, At.FILENAME), strict=True):
        state.set(place, state.follow(state.get(_CODE_AT), at, failed))
    name, file = (b.shift_right(state.get(place), 4) for place in _TEXTS_AT)
    mixed = b.add(name, b.binary(BinaryOp.MUL, file, 31))
    mixed = b.add(mixed, b.binary(BinaryOp.MUL, state.get(_CODE_VALUE, 4), 524287))
    mixed = b.binary(BinaryOp.XOR, mixed, b.shift_right(mixed, 30))
    mixed = b.binary(BinaryOp.XOR, mixed, b.shift_right(mixed, 15))
    check = b.shift_left(b.mask(mixed, (1 << _CHECK_BITS) - 1), 1)
    state.set(_KEY, b.binary(BinaryOp.OR, b.shift_left(state.get(_CODE_AT), 16), check))
    state.set(_KEY + 8, b.shift_right(b.call(helpers.GET_CURRENT_PID_TGID), 32))
    known = b.call(helpers.MAP_LOOKUP_ELEM, b.map(CODES.name), state.at(_KEY), kind=Kind.MAP_VALUE_OR_NULL)
    new, named = b.label("new_code"), b.label("named")
    b.branch(CompareOp.NE, known, 0, named, new)
    b.start(new)
    for number in range(len(_TEXTS_AT)):
        _take_text(b, state, number, named)
    # Memory that is not resident has no names, a map that is busy takes none: the next sample may bring them.
    b.call_void(helpers.MAP_UPDATE_ELEM, b.map(CODES.name), state.at(_KEY), state.at(_CODE_VALUE), 0)
    b.jump(named)
    b.start(named)


def _take_text(b: Builder, state: _State, number: int, failed: str) -> None:
    """Copy a ``str``: of a name that is too long the beginning, of a file's name the end."""
    pointer = _TEXTS_AT[number]
    flags = state.follow(state.get(pointer), At.STATE, failed, 4)
    shifted = b.binary(BinaryOp.LSHR, flags, state.field(At.KIND_SHIFT))
    kind = b.mask(shifted, 7)
    state.set(_KIND, kind)
    header = b.variable("header")
    b.set(header, state.field(At.COMPACT_BYTES))
    ascii_only, measured = b.label("ascii"), b.label("measured")
    b.branch(CompareOp.NE, b.mask(b.shift_right(shifted, 4), 1), 0, ascii_only, measured)
    b.start(ascii_only)
    b.set(header, state.field(At.ASCII_BYTES))
    b.jump(measured)
    b.start(measured)
    start = b.variable("start")
    b.set(start, b.add(state.get(pointer), b.get(header)))
    length = state.follow(state.get(pointer), At.LENGTH, failed)
    size, what = b.variable("size"), b.variable("what")
    b.set(size, b.binary(BinaryOp.MUL, length, state.get(_KIND)))
    b.set(what, state.get(_KIND))
    long, fits = b.label("long"), b.label("fits")
    b.branch(CompareOp.UGT, b.get(size), _LONGEST, long, fits)
    b.start(long)
    if number:
        b.set(start, b.add(b.get(start), b.sub(b.get(size), _LONGEST)))
    b.set(size, _LONGEST)
    b.set(what, b.binary(BinaryOp.OR, b.get(what), _CUT))
    b.jump(fits)
    b.start(fits)
    place = _CODE_VALUE + 16 + _TEXT_BYTES * number
    state.set(_CODE_VALUE + 4 + 4 * number, b.binary(BinaryOp.OR, b.get(what), b.shift_left(b.get(size), 8)), 4)
    bounded = b.bounded(b.get(size), _TEXT_BYTES)
    code = b.call(helpers.PROBE_READ_USER, state.at(place), bounded, b.get(start))
    copied = b.label("copied")
    b.branch(CompareOp.EQ, code, 0, copied, failed)
    b.start(copied)


INTERPRETER: Final = Interpreter(
    "pystack, pystack(limit): the functions of Python that the thread runs, in CPython 3.11 to 3.13; at most 127",
    FrameKind.PYTHON,
    PROCESSES,
    CODES,
    is_candidate,
    recognise,
    walk,
    is_loop,
    name_frame,
)
