"""``invivo doctor``: what works on this machine, what does not, and why."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from invivo.cli.options import Option, UsageError, format_options, parse
from invivo.errors import InvivoError
from invivo.kernel.features import FEATURES, Features
from invivo.record import Record
from invivo.version import VERSION

OPTIONS = (
    Option(("-f", "--format"), "FORMAT", "text (default) or json", choices=("text", "json")),
    Option(("--json",), help="the same as --format json"),
    Option(("-h", "--help"), help="show this"),
)

USAGE = f"""\
usage: invivo doctor [OPTION]...

Says what works on this machine for this user, what does not, why, and which privileges each thing needs. It tries:
programs that do nothing are loaded, and attached for a moment to functions of the kernel that nothing calls and to
this process.

{format_options(OPTIONS)}

exit status: 0 if programs can be traced with tracepoints (the main job), 1 if not
"""

OK, MISSING, NOTE = "ok", "missing", "note"


class Finding(Record):
    """One thing that was looked at. ``verdict``: ok, missing, note; ``needed``: for the main job.

    ``needs``: the privileges and features without which it does not work.
    """

    area: str
    name: str
    verdict: str
    value: str = ""
    advice: str = ""
    needed: bool = False
    needs: tuple[str, ...] = ()


def doctor(words: Sequence[str]) -> int:
    """Run ``invivo doctor``; return the exit status."""
    arguments = parse(OPTIONS, words)
    if arguments.has("help"):
        sys.stdout.write(USAGE)
        return 0
    if arguments.words or arguments.after:
        raise UsageError(f"unexpected '{(arguments.words + arguments.after)[0]}'")
    findings = examine()
    if arguments.has("json") or arguments.value("format") == "json":
        sys.stdout.write(as_json(findings))
    else:
        sys.stdout.write(as_text(findings))
    return 0 if can_work(findings) else 1


def can_work(findings: Sequence[Finding]) -> bool:
    """Whether the main job can be done: tracing with tracepoints."""
    return not any(finding.needed and finding.verdict == MISSING for finding in findings)


def examine() -> list[Finding]:
    """Look at everything."""
    return [*_system(), *_privileges(), *_kernel_settings(), *_attempts(), *_features(), *_probes()]


# -- what is looked at ---------------------------------------------------------------------------


def _system() -> Iterator[Finding]:
    name = os.uname()
    yield Finding("system", "kernel", OK, name.release)  # what it can do is tried
    known = name.machine == "x86_64"
    yield Finding("system", "machine", OK if known else MISSING, name.machine, "" if known else "needs x86_64", True)
    yield Finding("system", "invivo", OK, VERSION)
    yield Finding("system", "python", OK, f"{sys.version.split()[0]} {sys.executable}")
    yield from _foreign_writers()


def _foreign_writers() -> Iterator[Finding]:
    """Whoever can change the files of a program that root runs is root."""
    if os.geteuid() != 0:
        return
    package = Path(__file__).resolve().parents[1]
    for place in (package, Path(sys.executable)):
        status = place.stat()
        if status.st_uid != 0 or status.st_mode & 0o022:
            advice = "who can write there becomes root when root runs invivo: install it for root alone"
            yield Finding("system", "installation", NOTE, f"{place} is writable by others than root", advice)
            return


def _privileges() -> Iterator[Finding]:
    from invivo.kernel.capabilities import missing

    purposes = (
        ("CAP_BPF", "load programs and maps", True),
        ("CAP_PERFMON", "trace, and read memory of the kernel", True),
        ("CAP_SYS_ADMIN", "mount tracefs privately, uprobes before Linux 6.6", False),
        ("CAP_SYS_PTRACE", "name the symbols of other users' processes", False),
        ("CAP_SYSLOG", "see the addresses of kernel symbols", False),
    )
    for name, purpose, needed in purposes:
        lacks = bool(missing((name,)))
        advice = f"needed to {purpose}" if lacks else ""
        yield Finding("privileges", name, (MISSING if needed else NOTE) if lacks else OK, purpose, advice, needed)


def _kernel_settings() -> Iterator[Finding]:
    from invivo.kernel.capabilities import lockdown

    mode = lockdown()
    forbidden = mode == "confidentiality"
    advice = "lockdown forbids reading the kernel's memory: boot with lockdown=integrity or none" if forbidden else ""
    yield Finding("settings", "lockdown", MISSING if forbidden else OK, mode, advice, True)
    paranoid = _read("/proc/sys/kernel/perf_event_paranoid")
    strict = paranoid.isdigit() and int(paranoid) > 2
    advice = (
        "without CAP_SYS_ADMIN this kernel refuses all perf events: profile, software, tracepoint" if strict else ""
    )
    yield Finding("settings", "perf_event_paranoid", NOTE if strict else OK, paranoid or "absent", advice)
    pointers = _read("/proc/sys/kernel/kptr_restrict")
    hidden = pointers == "2"
    advice = "kernel addresses are hidden from everybody: kaddr() and names from kallsyms do not work" if hidden else ""
    yield Finding("settings", "kptr_restrict", NOTE if hidden else OK, pointers or "absent", advice)
    jit = _read("/proc/sys/net/core/bpf_jit_enable")
    slow = jit == "0"
    advice = "programs are interpreted, which is slow: sysctl net.core.bpf_jit_enable=1" if slow else ""
    yield Finding("settings", "bpf_jit_enable", NOTE if slow else OK, jit or "absent", advice)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _attempts() -> Iterator[Finding]:
    """What tracing does, done for a moment."""
    from invivo.cli.attempts import ATTEMPTS

    for attempt in ATTEMPTS:
        try:
            yield Finding("tried", attempt.name, OK, attempt.make(), needed=attempt.needed, needs=attempt.needs)
        except (InvivoError, OSError) as problem:
            hint = problem.hint if isinstance(problem, InvivoError) else None
            told = f"{problem.filename}: {problem.strerror}" if isinstance(problem, OSError) else str(problem)
            verdict = MISSING if attempt.needed else NOTE
            yield Finding("tried", attempt.name, verdict, told, hint or attempt.advice, attempt.needed, attempt.needs)


def _features() -> Iterator[Finding]:
    known = Features()
    for feature in FEATURES:
        present = _has(known, feature.name)
        built = _BUILT_WITH.get(feature.name, "it")
        advice = "" if present else f"in Linux since {feature.since}, if it was built with {built}"
        yield Finding("features", feature.name, OK if present else NOTE, feature.doc, advice)
    for helper in _HELPERS:
        present = _has(known, f"helper:{helper}")
        yield Finding("helpers", helper.partition(":")[0], OK if present else NOTE)


_BUILT_WITH = {
    "btf": "CONFIG_DEBUG_INFO_BTF",
    "bpf": "CONFIG_BPF_SYSCALL",
    "kprobe": "CONFIG_KPROBE_EVENTS",
    "uprobe": "CONFIG_UPROBE_EVENTS",
    "tracepoint": "CONFIG_TRACING",
    "kprobe_multi": "CONFIG_FPROBE",
    "uprobe_multi": "CONFIG_UPROBES",
    "kprobe_session": "CONFIG_FPROBE",
    "fentry": "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS, and nothing forbids it",
    "function_tracer": "CONFIG_FUNCTION_TRACER, and nothing forbids it",
    "data_symbols": "CONFIG_KALLSYMS_ALL",
    "hardware": "CONFIG_PERF_EVENTS and the machine has a PMU (virtual ones often have none)",
}

# Those that invivo uses where a kernel has them, or that scripts ask for by name.
_HELPERS = (
    "ringbuf_reserve",
    "probe_read_kernel",
    "probe_read_user_str",
    "get_current_task_btf",
    "get_attach_cookie",
    "get_func_ip:KPROBE",
    "get_stack",
    "for_each_map_elem",
    "loop",
    "map_lookup_percpu_elem",
    "ktime_get_boot_ns",
    "ktime_get_tai_ns",
    "get_ns_current_pid_tgid",
)


def _probes() -> Iterator[Finding]:
    """Each kind of probe, and what it lacks here."""
    from invivo.kernel.capabilities import missing
    from invivo.probes import providers

    known = Features()
    for provider in providers():
        lacking = [need for need in provider.needs if need.startswith("CAP_") and missing((need,))]
        lacking += [
            need for need in provider.needs if not need.startswith("CAP_") and not _has(known, _NEEDS.get(need, need))
        ]
        advice = f"lacking here: {', '.join(lacking)}" if lacking else ""
        verdict = NOTE if lacking else OK
        yield Finding("probes", provider.name, verdict, provider.doc.split("\n")[0], advice, needs=provider.needs)


# What the probes' records call it -> the kernel room's features.
_NEEDS = {
    "BTF": "btf",
    "function tracer": "function_tracer",
    "kprobes": "kprobe",
    "uprobes": "uprobe",
    "tracefs": "tracepoint",
    "hardware counters": "hardware",
}


def _has(known: Features, feature: str) -> bool:
    """Whether the kernel has a feature; one that it will not tell about counts as absent."""
    try:
        return known.has(feature)
    except InvivoError:
        return False


# -- how it is shown -----------------------------------------------------------------------------

_MARKS = {OK: "ok", MISSING: "MISSING", NOTE: "-"}
_HEADLINES = {
    "system": "System",
    "privileges": "Privileges of this process",
    "settings": "Settings of the kernel",
    "tried": "Tried",
    "features": "Features of the kernel",
    "helpers": "Helpers of the kernel",
    "probes": "Probes",
}


def as_text(findings: Sequence[Finding]) -> str:
    """The findings by area, and the verdict."""
    lines: list[str] = []
    area = ""
    for finding in findings:
        if finding.area != area:
            area = finding.area
            lines += ["", _HEADLINES[area]] if lines else [_HEADLINES[area]]
        lines.append(f"  {_MARKS[finding.verdict]:<8}{finding.name:<36}{finding.value}".rstrip())
        if finding.advice:
            lines.append(f"{'':10}{finding.advice}")
        if finding.needs:
            lines.append(f"{'':10}needs {', '.join(finding.needs)}")
    lacking = [finding.name for finding in findings if finding.needed and finding.verdict == MISSING]
    verdict = f"Tracing does not work here; missing: {', '.join(lacking)}." if lacking else "Tracing works here."
    return "\n".join([*lines, "", verdict]) + "\n"


def as_json(findings: Sequence[Finding]) -> str:
    """One object: the verdict, and all findings."""
    import json

    found = [{name: getattr(finding, name) for name in Finding.__record_fields__} for finding in findings]
    return json.dumps({"works": can_work(findings), "findings": found}, indent=1) + "\n"


# -- bpftrace --info -----------------------------------------------------------------------------

_INFO_HELPERS = (
    ("dpath", "helper:d_path:TRACING_ITER"),
    ("get_tai_ns", "helper:ktime_get_tai_ns"),
    ("get_func_ip", "helper:get_func_ip:KPROBE"),
    ("lookup_percpu_elem", "helper:map_lookup_percpu_elem"),
    ("loop", "helper:loop"),
)
_INFO_PROBES = (
    ("kprobe_multi", "kprobe_multi"),
    ("uprobe_multi", "uprobe_multi"),
    ("kprobe_session", "kprobe_multi kprobe_session"),
    ("iter", "iterator:task"),
)


def bpftrace_info(bpftrace_version: str) -> str:
    """What ``bpftrace --info`` says, in its form; where it names a library: whether invivo does what it is for."""
    known = Features()

    def rows(table: Sequence[tuple[str, str]]) -> list[str]:
        return [
            f"  {name}: {'yes' if all(_has(known, each) for each in features.split()) else 'no'}"
            for name, features in table
        ]

    name = os.uname()
    libraries = (
        ("bfd", "yes"),
        ("libdw (DWARF support)", "yes"),
        ("libsystemd (systemd notify support)", "yes"),
        ("blazesym (advanced symbolization)", "no"),
        ("dwunwind (DWARF stack unwinding)", "yes"),
    )
    lines = [
        "System",
        f"  OS: {name.sysname} {name.release} {name.version}",
        f"  Arch: {name.machine}",
        "",
        "Build",
        f"  version: v{bpftrace_version} (invivo {VERSION})",
        "  LLVM: none",
        *(f"  {library}: {does}" for library, does in libraries),
        "",
        "Kernel helpers",
        *_in_columns(rows(_INFO_HELPERS)),
        "",
        "Kernel features",
        *_in_columns(["  Instruction limit: 1000000", *rows((("btf", "btf"), ("module btf", "btf")))]),
        "",
        "Probe types",
        *_in_columns(rows(_INFO_PROBES)),
        "",
    ]
    return "\n".join(lines) + "\n"


def _in_columns(rows: Sequence[str]) -> list[str]:
    """Two in a line, the second at column 37."""
    pairs = [rows[index : index + 2] for index in range(0, len(rows), 2)]
    return [f"{pair[0]:<35}{pair[1]}" if len(pair) == 2 else pair[0] for pair in pairs]
