"""The stages of a compile as text: ``--dump ast|ir|bpf|image``, and what ``-v`` shows."""

from __future__ import annotations

from invivo.image import Image, ProgramImage
from invivo.ir.layout import Layout, MapLayout, MapSpec, RecordLayout
from invivo.library.spelling import spell
from invivo.pipeline import Compilation
from invivo.target import ProgramType

_POINTS_SHOWN = 4


def format_stage(compilation: Compilation, stage: str) -> str:
    """A stage of a compile as text."""
    match stage:
        case "ast":
            from invivo.lang.text import format_script

            return format_script(compilation.script)
        case "ir":
            from invivo.ir.text import format_program

            return format_program(compilation.program)
        case "bpf":
            from invivo.bpf.text import format_image

            return format_image(compilation.image)
        case _:
            return describe_image(compilation.image, every_point=True) + describe_layout(compilation.image.layout)


def describe_image(image: Image, *, every_point: bool = False) -> str:
    """The maps and programs of an image, one line each, and where the programs are attached."""
    lines = [_format_map(spec) for spec in image.maps]
    for program in image.programs:
        lines += _program_lines(program, every_point=every_point)
    return "".join(f"{line}\n" for line in lines)


def describe_attaching(image: Image) -> str:
    """What bpftrace says of each probe with ``-v``, in the order of the script."""
    points = [point for program in image.programs if program.order >= 0 for point in program.plan.points]
    return "".join(
        f"Attaching '{point.name}' probe\n"
        if point.name in ("begin", "end")
        else f"Trying to attach probe: {point.name}\n"
        for point in points
    )


def _format_map(spec: MapSpec) -> str:
    frozen = " frozen" if spec.frozen else ""
    flags = f" flags {spec.flags:#x}" if spec.flags else ""
    return (
        f"map {spec.name}: {spec.type.name.lower()} key {spec.key_size} value {spec.value_size} "
        f"entries {spec.max_entries}{flags}{frozen}"
    )


def _program_lines(program: ProgramImage, *, every_point: bool) -> list[str]:
    context = program.plan.context
    points = program.plan.points
    own = "" if program.order >= 0 else ", invivo's own"
    functions = f", {len(program.functions)} functions" if len(program.functions) > 1 else ""
    head = (
        f"program {program.name}: {context.program.name.lower()}, {len(program.code) // 8} instructions"
        f"{functions}, {len(points)} attach point{'' if len(points) == 1 else 's'}{own}"
    )
    shown = points if every_point else points[:_POINTS_SHOWN]
    lines = [head, f"    by {_attachment(program)}", *(f"    {point.name}" for point in shown)]
    if len(points) > len(shown):
        lines.append(f"    and {len(points) - len(shown)} more")
    return lines


def _attachment(program: ProgramImage) -> str:
    """How the program comes to run: what was chosen of the ways that the kernel has."""
    context = program.plan.context
    count = len(program.plan.points)
    several = f"{count} perf events" if count > 1 else "a perf event"
    match context.program:
        case ProgramType.RAW_TRACEPOINT if context.provider in _RUN_BY_THE_SESSION:
            return "a run of the session's own"
        case ProgramType.RAW_TRACEPOINT:
            return f"{count} raw tracepoints" if count > 1 else "a raw tracepoint"
        case ProgramType.TRACING_RAW_TP if context.gate is not None:
            calls = len(context.gate.table)
            return f"a raw tracepoint of all system calls, behind a gate for {calls} of them"
        case ProgramType.TRACING_RAW_TP:
            return "a raw tracepoint with types"
        case ProgramType.TRACEPOINT:
            return f"{several}, with the record of each hit"
        case ProgramType.KPROBE_MULTI:
            return f"one kprobe_multi link for {count} functions"
        case ProgramType.KPROBE_SESSION:
            return f"one kprobe session link for entry and return of {count // 2} functions"
        case ProgramType.UPROBE_SESSION:
            return f"uprobe session links for entry and return of {count // 2} functions"
        case ProgramType.UPROBE_MULTI:
            return f"uprobe_multi links for {count} places" if count > 1 else "a uprobe_multi link"
        case ProgramType.KPROBE:
            return several
        case ProgramType.PERF_EVENT:
            return f"{several}, opened for each processor or thread"
        case ProgramType.TRACING_FENTRY | ProgramType.TRACING_FEXIT:
            return "a trampoline of the function"
        case ProgramType.TRACING_ITER:
            return "an iterator's link"


_RUN_BY_THE_SESSION = frozenset({"begin", "end", "self", "test", "bench"})


def describe_layout(layout: Layout) -> str:
    """The memory of an image: the script's maps, the ring's records, the counters of losses."""
    lines = [_format_map_layout(each) for each in layout.maps]
    if layout.stride:
        lines.append(f"ring: stride {layout.stride}")
    lines += [_format_record(record) for record in layout.records]
    lines += [f"loss {each.kind.value} {each.subject or '-'}: at {each.offset}" for each in layout.losses]
    return "".join(f"{line}\n" for line in lines)


def _format_map_layout(each: MapLayout) -> str:
    key = "" if each.key is None else f"[{', '.join(map(spell, each.key))}]"
    place = f" at {each.offset}" if each.storage.value.endswith("cell") else ""
    stride = f" stride {each.stride}" if each.stride else ""
    return f"value {each.name}{key}: {spell(each.value)}, {each.storage.value} in {each.map}{place}{stride}"


def _format_record(record: RecordLayout) -> str:
    fields = ", ".join(f"{field.name} {spell(field.type)} at {field.offset}" for field in record.fields)
    name = type(record.action).__name__.lower()
    return f"record {record.id}: {name}, {record.size} bytes, {record.strides} strides{': ' if fields else ''}{fields}"
