"""The commands, run as a user runs them: real processes, real events."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import invivo as invivo_api
from invivo.events import Row
from invivo.kernel.features import has

INVIVO = (sys.executable, "-m", "invivo")
BPFTRACE = (sys.executable, "-c", "from invivo.cli.bpftrace import main; main()")


def invivo(*words: str, text: str | None = None, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return _run((*INVIVO, *words), text, env)


def bpftrace(
    *words: str, text: str | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return _run((*BPFTRACE, *words), text, env)


def _run(words: tuple[str, ...], text: str | None, env: dict[str, str] | None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, input=text or "", capture_output=True, text=True, timeout=60, env=os.environ | (env or {}), check=False
    )


# -- the commands ------------------------------------------------------------------------


def test_files_opened_by_a_command() -> None:
    done = invivo(
        "run", "-e", 't:syscalls:sys_enter_openat { printf("%s %s\\n", comm, str(args.filename)); }', "-c", "ls /"
    )
    assert done.returncode == 0, done.stderr
    assert "ls /etc/ld.so.cache\n" in done.stdout
    assert {line.split()[0] for line in done.stdout.splitlines() if "/etc/" in line} == {"ls"}
    assert done.stderr.startswith("Attached 1 probe\n")


def test_system_calls_counted_by_name() -> None:
    done = invivo("run", "-e", "t:syscalls:sys_enter_* { @[probe] = count(); }", "-c", "find /etc -maxdepth 1 -quit")
    assert done.returncode == 0, done.stderr
    counts = dict(line[2:].split("]: ") for line in done.stdout.splitlines() if line.startswith("@["))
    assert int(counts["tracepoint:syscalls:sys_enter_openat"]) >= 2
    assert counts["tracepoint:syscalls:sys_enter_exit_group"] == "1"
    values = [int(value) for value in counts.values()]
    assert values == sorted(values)


def test_latency_histogram() -> None:
    program = """
        t:syscalls:sys_enter_read { @start[tid] = nsecs; }
        t:syscalls:sys_exit_read /@start[tid]/ {
            @us[pid, comm] = hist((nsecs - @start[tid]) / 1000); delete(@start, tid);
        }
    """
    done = invivo("run", "-e", program, "-c", "cat /etc/passwd")
    assert done.returncode == 0, done.stderr
    assert ", cat]:\n[" in done.stdout
    assert " |@" in done.stdout
    assert "@start[" not in done.stdout


def test_profile_with_stacks() -> None:
    program = "profile:hz:99 { @[kstack, ustack, comm] = count(); } END { print(@, 5); clear(@); }"
    busy = f"{sys.executable} -c 'for i in range(20000000): pass'"
    done = invivo("run", "-e", program, "-c", busy)
    assert done.returncode == 0, done.stderr
    assert "python" in done.stdout
    assert len([line for line in done.stdout.splitlines() if line.startswith("@[")]) <= 5


@pytest.fixture
def typing_bash() -> Iterator[tuple[int, int]]:
    """A bash with a terminal: its process id, and the terminal to type into."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "-i"], {"PATH": "/usr/bin:/bin", "TERM": "dumb"})
    try:
        yield pid, terminal
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def test_lines_typed_into_a_bash(typing_bash: tuple[int, int]) -> None:
    pid, terminal = typing_bash
    program = 'uretprobe:/bin/bash:readline { printf("%s\\n", str(retval)); }'
    words = (*INVIVO, "run", "-f", "json", "-e", program, "-p", str(pid))
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stdout is not None
        assert json.loads(tracer.stdout.readline())["type"] == "attached_probes"
        # The read that bash is in began before the probe was there: its return is not seen by everyone.
        os.write(terminal, b"echo first\n")
        time.sleep(0.3)
        os.write(terminal, b"echo $((6 * 7))\n")
        time.sleep(0.3)
        os.write(terminal, b"exit\n")
        output, errors = tracer.communicate(timeout=30)
    printed = [json.loads(line)["data"] for line in output.splitlines()]
    assert "echo $((6 * 7))\n" in printed, errors
    assert tracer.returncode == 0


def test_script_with_arguments(tmp_path: Path) -> None:
    script = tmp_path / "script.bt"
    script.write_text('BEGIN { printf("%d %s %d\\n", $1, str($2), $#); exit(); }')
    done = invivo("run", "-q", str(script), "41", "word")
    assert (done.stdout, done.stderr, done.returncode) == ("41 word 2\n", "", 0)


@pytest.mark.parametrize("command", [invivo, bpftrace], ids=["invivo", "invivo-bpftrace"])
def test_imports_are_relative_to_the_script(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "a.bt").write_text('import "b.h";\nmacro hello() { printf("%d\\n", sizeof(struct b)); }\n')
    (tmp_path / "lib" / "b.h").write_text("struct b { int x[5]; };\n")
    script = tmp_path / "main.bt"
    script.write_text('import "lib/a.bt";\nbegin { hello(); exit(); }\n')
    done = command(*(["run"] if command is invivo else []), str(script))
    assert done.stdout.strip() == "20", done.stderr


@pytest.mark.parametrize("command", [invivo, bpftrace], ids=["invivo", "invivo-bpftrace"])
def test_headers_of_the_user(command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    (tmp_path / "mine.h").write_text("#define MINE 42\ntypedef struct { long a, b; } pair_t;\n")
    program = 'begin { printf("%d %d\\n", MINE, sizeof(pair_t)); exit(); }'
    words = (*(["run"] if command is invivo else []), "-I", str(tmp_path), "--include", "mine.h", "-e", program)
    done = command(*words)
    assert done.stdout.strip() == "42 16", done.stderr


def test_a_script_from_python_imports_too(tmp_path: Path) -> None:
    (tmp_path / "lib.bt").write_text("macro two() { 2 }\n")
    (tmp_path / "main.bt").write_text('import "lib.bt";\nbegin { print(two()); exit(); }\n')
    with invivo_api.trace(tmp_path / "main.bt") as session:
        printed = [event.value for event in session if isinstance(event, Row)]
    assert printed == [2]


def test_script_on_standard_input() -> None:
    done = invivo("run", "-q", "-", text='BEGIN { printf("in\\n"); exit(); }')
    assert (done.stdout, done.stderr, done.returncode) == ("in\n", "", 0)


def test_list() -> None:
    done = invivo("list", "tracepoint:sched:*")
    lines = done.stdout.splitlines()
    assert "tracepoint:sched:sched_switch" in lines
    assert lines == sorted(lines)
    assert all(line.startswith("tracepoint:sched:") for line in lines)


def test_list_with_arguments() -> None:
    done = invivo("list", "-v", "tracepoint:syscalls:sys_enter_openat")
    assert done.stdout.startswith("tracepoint:syscalls:sys_enter_openat\n")
    assert "    int dfd\n" in done.stdout
    objects = json.loads(invivo("list", "-v", "-f", "json", "tracepoint:syscalls:sys_enter_openat").stdout)
    assert {"name": "dfd", "type": "int"} in objects[0]["args"]


def test_list_finds_words_and_types() -> None:
    assert "tracepoint:syscalls:sys_enter_openat\n" in invivo("list", "enter_openat").stdout
    assert invivo("list", "struct task_struct").stdout == "struct task_struct\n"
    assert "        int counter;\n" in invivo("list", "-v", "struct refcount_struct").stdout or (
        "        atomic_t refs;\n" in invivo("list", "-v", "struct refcount_struct").stdout
    )


def test_list_says_when_there_is_nothing() -> None:
    done = invivo("list", "tracepoint:nope:*")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "invivo list: tracepoint:nope:* cannot be probed on this kernel: no such tracepoint category 'nope'\n"
    )
    done = invivo("list", "struct tack_struct", "opennnat")
    assert (done.stdout, done.returncode) == ("", 1)
    struct_told, hint, word_told = done.stderr.splitlines()
    assert (struct_told, word_told) == (
        "invivo list: nothing matches 'struct tack_struct'",
        "invivo list: nothing matches 'opennnat'",
    )
    assert hint.startswith("hint: did you mean task_struct")
    done = invivo("list", "foo:bar", "iter:task")
    assert (done.stdout, done.stderr, done.returncode) == ("iter:task\n", "invivo list: invalid provider: 'foo'\n", 0)


def test_types_are_listed_as_json() -> None:
    names = json.loads(invivo("list", "-f", "json", "enum pid_type").stdout)
    assert names == [{"type": "enum pid_type"}]
    (told,) = json.loads(invivo("list", "-f", "json", "-v", "struct list_head").stdout)
    assert told["type"] == "struct list_head"
    assert told["declaration"].startswith("struct list_head {\n        struct list_head *next;\n")


def test_doctor() -> None:
    done = invivo("doctor")
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("Tracing works here.\n")
    report = json.loads(invivo("doctor", "--json").stdout)
    assert report["works"] is True
    verdicts = {finding["name"]: finding["verdict"] for finding in report["findings"]}
    assert verdicts["btf"] == "ok"
    assert verdicts["tracepoint"] == "ok"
    assert verdicts["attach to a raw tracepoint"] == verdicts["probe this program (uprobe)"] == "ok"
    needs = {finding["name"]: finding["needs"] for finding in report["findings"]}
    assert needs["load a program"] == ["CAP_BPF", "CAP_PERFMON"]
    assert needs["tracepoint"] == ["CAP_PERFMON", "tracefs"]
    why = {finding["name"]: finding["value"] for finding in report["findings"] if finding["verdict"] == "note"}
    if not has("kprobe"):
        assert why["probe a kernel function (kprobe)"].startswith("kprobes")
    if not has("fentry"):
        assert "probe a kernel function (fentry)" in why


def test_doctor_without_privileges() -> None:
    """As a root who may do nothing: what is missing is named with each attempt, and the status says that it counts."""
    words = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable]
    words += ["-c", "from invivo.cli.main import main; main()", "doctor"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "MISSING load a program" in done.stdout
    assert "run as root (missing: CAP_BPF, CAP_PERFMON)" in done.stdout
    assert re.search(r"^Tracing does not work here; missing: CAP_BPF, CAP_PERFMON, load a program", done.stdout, re.M)


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("ast", 'printf("%d\\n", 7);'),
        ("ir", "map invivo_ring"),
        ("bpf", "call ringbuf_reserve"),
        ("image", "program probe0: raw_tracepoint"),
    ],
)
def test_dump(stage: str, expected: str) -> None:
    done = invivo("run", "--dump", stage, "-e", 'BEGIN { printf("%d\\n", 7); }')
    assert expected in done.stdout
    assert (done.stderr, done.returncode) == ("", 0)


def test_dry_run_runs_nothing() -> None:
    done = invivo("run", "--dry-run", "-e", 't:syscalls:sys_enter_openat { printf("x\\n"); }', "-c", "echo ran")
    assert (done.stdout, done.returncode) == ("", 0)


def test_verbose_shows_programs_and_maps() -> None:
    done = invivo("run", "-v", "-e", "BEGIN { @ = 1; exit(); }")
    assert "program probe0: raw_tracepoint" in done.stderr
    assert "map invivo_ring: ringbuf" in done.stderr
    assert done.returncode == 0


def test_output_file(tmp_path: Path) -> None:
    result = tmp_path / "result"
    result.write_text("what was there before, and longer than the result")
    done = invivo("run", "-o", str(result), "-e", 'BEGIN { printf("to file\\n"); exit(); }')
    assert (done.stdout, result.read_text()) == ("", "to file\n")
    failed = invivo("run", "-o", str(tmp_path / "no" / "file"), "-e", "BEGIN { exit(); }")
    assert failed.returncode == 1
    assert "cannot write" in failed.stderr


@pytest.mark.parametrize("mode", ["line", "full", "none"])
def test_buffering(mode: str) -> None:
    done = invivo("run", "-q", "-B", mode, "-e", 'BEGIN { printf("a\\n"); printf("b\\n"); exit(); }')
    assert done.stdout == "a\nb\n"


def test_typed_events() -> None:
    done = invivo("run", "-f", "ndjson", "-e", 'BEGIN { printf("%s %d\\n", "a", 3); @x = 5; exit(4); }')
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["type"] for event in events] == ["header", "attached", "printf", "map", "end"]
    assert events[2]["values"] == ["a", 3]
    assert (events[-1]["reason"], events[-1]["status"], done.returncode) == ("exit", 4, 4)


# -- exit statuses and signals -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "command", "status"),
    [
        pytest.param("BEGIN { exit(); }", "sleep 30", 0, id="exit() wins over the command"),
        pytest.param("BEGIN { exit(3); }", "sleep 30", 3, id="exit(3)"),
        pytest.param("t:syscalls:sys_enter_execve { }", "sh -c 'exit 7'", 7, id="the command's status"),
        pytest.param("t:syscalls:sys_enter_execve { }", "sh -c 'kill -TERM $$'", 143, id="the command's signal"),
    ],
)
def test_exit_status(program: str, command: str, status: int) -> None:
    assert invivo("run", "-q", "-e", program, "-c", command).returncode == status


def test_ctrl_c_shows_the_maps() -> None:
    words = (
        *INVIVO,
        "run",
        "-e",
        'BEGIN { @answer = 42; } interval:ms:50 { @ticks = count(); } END { printf("end\\n"); }',
    )
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        assert tracer.stderr.readline() == "Attached 3 probes\n"
        time.sleep(0.2)
        tracer.send_signal(signal.SIGINT)
        output, errors = tracer.communicate(timeout=10)
    assert tracer.returncode == 0, errors
    assert "end\n" in output
    assert "@answer: 42\n" in output
    assert "Traceback" not in errors


def test_nobody_reads() -> None:
    words = (*INVIVO, "run", "-q", "-e", 'interval:ms:1 { printf("%s\\n", "x"); }')
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stdout is not None
        assert tracer.stdout.readline() == "x\n"
        tracer.stdout.close()
        assert tracer.stderr is not None
        assert tracer.stderr.read() == ""
        assert tracer.wait(10) == 141


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        pytest.param(["-e", "BEGIN { nope(); }"], 1, "-e:1:9: error[unknown-function]: ", id="unknown function"),
        pytest.param(["-e", "BEGIN {"], 1, "-e:1:8: error[syntax]: ", id="syntax"),
        pytest.param(
            ["-e", "t:sched:sched_swich { }"],
            1,
            "tracepoint:sched:sched_swich cannot be probed on this kernel: ",
            id="no such probe",
        ),
        pytest.param(["-e", 'BEGIN { system("true"); }'], 1, "error[unsafe]: ", id="unsafe"),
        pytest.param(["/nonexistent.bt"], 1, "cannot read '/nonexistent.bt': No such file or directory", id="no file"),
        pytest.param(["-e", "BEGIN { exit(); }", "-c", "nope-nope"], 1, "no such command in PATH", id="no command"),
        pytest.param(["-e", "BEGIN { exit(); }", "-p", "4194304"], 1, "no process 4194304", id="no process"),
        pytest.param(["--frmat", "json"], 2, "unknown option --frmat\nhint: did you mean --format?", id="option"),
        pytest.param([], 2, "no program", id="no program"),
        pytest.param(["-e", "BEGIN { }", "-c", "x", "-p", "1"], 2, "-c and -p exclude each other", id="-c and -p"),
        pytest.param(["-e", "BEGIN { }", "--follow"], 2, "--follow goes with -p", id="follow alone"),
        pytest.param(["-e", "BEGIN { }", "-c", "'"], 2, "-c: no closing quotation", id="bad -c"),
    ],
)
def test_mistakes_are_explained(words: list[str], status: int, expected: str) -> None:
    done = invivo("run", *words)
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert (done.returncode, done.stdout) == (status, "")


def test_without_capabilities() -> None:
    """What a user hears who may not trace. A first run loads everything: nobody may not read this checkout."""
    program = (
        "import os, sys; from invivo.cli.main import run_words; run_words(['run', '-q', '-e', 'BEGIN { exit(); }']);"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "sys.exit(run_words(['run', '-e', 'BEGIN { exit(); }']))"
    )
    done = _run((sys.executable, "-c", program), None, None)
    assert done.stderr == (
        "invivo run: tracing needs CAP_BPF and CAP_PERFMON, which this process does not have\n"
        "hint: run it as root, or in a service with these capabilities (AmbientCapabilities=); "
        "`invivo doctor` says more\n"
    )
    assert done.returncode == 1


def test_traced_control_characters_do_not_reach_a_terminal() -> None:
    """A file name with an escape sequence, shown on a terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        program = 't:syscalls:sys_enter_openat { printf("%s\\n", str(args.filename)); }'
        os.execv(sys.executable, [*INVIVO, "run", "-q", "-e", program, "-c", "cat '/tmp/\x1b]0;title\x07'"])
    shown = b""
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    os.close(terminal)
    os.waitpid(pid, 0)
    assert b"/tmp/\\x1b]0;title\\x07" in shown
    assert b"\x1b" not in shown.replace(b"cat: ", b"").split(b"No such file")[-1]


# -- bpftrace's own command line -----------------------------------------------------------------


def test_bpftrace_runs_a_program() -> None:
    done = bpftrace("-e", 'BEGIN { printf("%d %s\\n", $1, str($2)); exit(); }', "5", "x")
    # Two line breaks come before the maps, even if there are none.
    assert (done.stdout, done.stderr, done.returncode) == ("5 x\n\n\n", "Attached 1 probe\n", 0)


def test_bpftrace_takes_the_last_program() -> None:
    done = bpftrace("-q", "-e", "BEGIN { exit(1); }", "-e", "BEGIN { exit(2); }")
    assert done.returncode == 2


def test_bpftrace_begin_programs_end_by_themselves() -> None:
    done = bpftrace("-q", "-e", 'BEGIN { printf("x\\n"); @a = 1; }')
    assert (done.stdout, done.returncode) == ("x\n\n\n@a: 1\n", 0)


def test_bpftrace_does_not_filter_to_its_command() -> None:
    """There only a predicate does; ``cpid`` is the command."""
    program = "t:syscalls:sys_enter_execve /pid == cpid/ { @[comm] = count(); }"
    done = bpftrace("-q", "-e", program, "-c", "/bin/true")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("@[") == 1


@pytest.mark.parametrize(
    ("words", "stream", "expected", "status"),
    [
        pytest.param([], "stderr", "USAGE:\n", 1, id="no arguments"),
        pytest.param(["--help"], "stdout", "USAGE:\n", 0, id="help"),
        pytest.param(["-V"], "stdout", "bpftrace v0.26", 0, id="version"),
        pytest.param(["--nope"], "stderr", "unrecognized option '--nope'\nUSAGE:", 1, id="unknown option"),
        pytest.param(
            ["-f", "xml", "-e", "BEGIN { }"], "stderr", 'ERROR: Invalid output format "xml"\n', 1, id="format"
        ),
        pytest.param(["-B", "x", "-e", "BEGIN { }"], "stderr", "USAGE: -B must be either", 1, id="buffering"),
        pytest.param(
            ["-c", "true", "-p", "1", "-e", "BEGIN { }"],
            "stderr",
            "USAGE: Cannot use both -c and -p.\nUSAGE:",
            1,
            id="-c -p",
        ),
        pytest.param(["-d", "nope", "-e", "BEGIN { }"], "stderr", "USAGE: invalid option for -d: nope", 1, id="stage"),
        pytest.param(["-p", "5000000", "-e", "BEGIN { }"], "stderr", "ERROR: Pid out of range: 5000000", 1, id="pid"),
        pytest.param(["-q"], "stderr", "USAGE: filename or -e 'program' required.", 1, id="no program"),
        pytest.param(["nope.bt"], "stderr", "ERROR: failed to open file 'nope.bt': No such file", 1, id="no file"),
        pytest.param(["-e", "begin { foo }"], "stderr", "stdin:1:", 1, id="diagnostic"),
        pytest.param(["--info"], "stdout", "  Instruction limit: 1000000         btf: yes\n", 0, id="info"),
        pytest.param(
            ["-l", "tracepoint:sched:sched_switch"], "stdout", "tracepoint:sched:sched_switch\n", 0, id="list"
        ),
        pytest.param(
            ["-l", "-e", "t:sched:sched_swi* { } BEGIN { }"],
            "stdout",
            "tracepoint:sched:sched_switch\n",
            0,
            id="list program",
        ),
        pytest.param(["--verify-llvm-ir", "-q", "-e", "BEGIN { exit(); }"], "stdout", "", 0, id="accepted, no effect"),
        pytest.param(["-d", "ast", "-e", "BEGIN { exit(); }"], "stdout", "exit();", 0, id="a stage"),
    ],
)
def test_bpftrace_command_line(words: list[str], stream: str, expected: str, status: int) -> None:
    done = bpftrace(*words)
    assert expected in getattr(done, stream), (done.stdout, done.stderr)
    assert done.returncode == status


def test_bpftrace_settings_from_the_environment() -> None:
    program = 'BEGIN { printf("%s\\n", str($1)); exit(); }'
    done = bpftrace("-q", "-e", program, "abcdefghijklmnop", env={"BPFTRACE_MAX_STRLEN": "8"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("abcdefg")
    assert "abcdefghij" not in done.stdout
