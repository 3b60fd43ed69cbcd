"""How a trace begins and ends, for who calls bpftrace: order, signals, the command's life, exit statuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from invivo.cli.bpftrace import run_words
from invivo.events import MapSnapshot
from running import run

BPFTRACE = (sys.executable, "-c", "from invivo.cli.bpftrace import main; main()")
ATTACHED = "__BPFTRACE_NOTIFY_PROBES_ATTACHED"


@contextmanager
def attached(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A trace that has attached everything."""
    environment = os.environ | {ATTACHED: "1"}
    with subprocess.Popen(
        (*BPFTRACE, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as tracer:
        try:
            assert tracer.stdout is not None
            assert tracer.stdout.readline() == f"{ATTACHED}\n"
            yield tracer
        finally:
            if tracer.poll() is None:
                tracer.kill()


def test_begin_attaching_command_end(capfd: pytest.CaptureFixture[str]) -> None:
    """The command begins when all is attached, and ``end`` runs when it has ended."""
    program = """
        begin { printf("begin\\n"); }
        tracepoint:syscalls:sys_enter_exit_group /pid == cpid/ { printf("exits\\n"); }
        end { printf("end\\n"); @left = 1; }
    """
    assert run_words(["-e", program, "-c", "/bin/true"]) == 0
    assert capfd.readouterr() == ("begin\nexits\nend\n\n\n@left: 1\n", "Attached 3 probes\n")


def test_begins_and_ends_run_in_the_order_of_the_script(capfd: pytest.CaptureFixture[str]) -> None:
    program = 'end { printf("c"); } begin { printf("a"); } end { printf("d"); } BEGIN { printf("b"); }'
    assert run_words(["-q", "-e", program]) == 0
    assert capfd.readouterr().out == "abcd\n\n"


def test_a_program_of_begin_and_end_ends_its_command(capfd: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    assert (
        run_words(["-q", "-e", 'begin { printf("%d\\n", cpid > 0); } end { printf("end\\n"); }', "-c", "sleep 60"]) == 0
    )
    assert time.monotonic() - started < 10
    assert capfd.readouterr().out == "1\nend\n\n\n"


def test_the_command_gets_a_sigterm(tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = f"trap 'echo term > {told}; exit' TERM; echo ready; while :; do sleep 0.05; done"
    # The system call of `echo ready`, so that the trap is set.
    program = "tracepoint:syscalls:sys_enter_write /pid == cpid && args.fd == 1/ { exit(5); }"
    assert run_words(["-q", "-e", program, "-c", f'/bin/sh -c "{script}"']) == 5
    assert told.read_text() == "term\n"


def test_the_end_of_a_process_ends_the_trace(capfd: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen(["sleep", "0.5"]) as process:
        words = ["-q", "-p", str(process.pid), "-e", 'interval:s:100 { } end { printf("end\\n"); }']
        assert run_words(words) == 0
    assert capfd.readouterr().out == "end\n\n\n"


def test_what_a_process_filters(capfd: pytest.CaptureFixture[str]) -> None:
    """Events are those of the process; begin, end and interval are not filtered."""
    program = """
        begin { @begin = 1; }
        tracepoint:syscalls:sys_enter_getppid { @events[pid == $1] = 1; }
        interval:ms:100 { @ticks = 1; }
        end { @end = 1; }
    """
    code = "import os, time\nend = time.monotonic() + 1.5\nwhile time.monotonic() < end: os.getppid(); time.sleep(0.01)"
    with subprocess.Popen([sys.executable, "-c", code]) as traced, subprocess.Popen([sys.executable, "-c", code]):
        assert run_words(["-q", "-p", str(traced.pid), "-e", program, str(traced.pid)]) == 0
    assert capfd.readouterr().out == "\n\n@begin: 1\n@end: 1\n@events[true]: 1\n@ticks: 1\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_in_order(number: signal.Signals) -> None:
    program = 'begin { @a = 1; } interval:s:100 { } end { printf("end\\n"); }'
    with attached("-e", program) as tracer:
        tracer.send_signal(number)
        output, errors = tracer.communicate(timeout=10)
    assert (output, errors, tracer.returncode) == ("end\n\n\n@a: 1\n", "Attached 3 probes\n", 0)


def test_a_signal_probe_keeps_a_trace_alive() -> None:
    program = 'begin { printf("begin\\n"); } self:signal:SIGUSR1 { printf("signal %d\\n", pid == $1); exit(3); }'
    with attached("-B", "none", "-e", program, "0") as tracer:
        assert tracer.stdout is not None
        assert tracer.stdout.readline() == "begin\n"
        tracer.send_signal(signal.SIGUSR1)
        output, errors = tracer.communicate(timeout=10)
    assert (output, errors, tracer.returncode) == ("signal 0\n\n\n", "Attached 2 probes\n", 3)


def test_a_signal_that_no_probe_waits_for_does_nothing() -> None:
    with attached("-q", "-e", "interval:ms:500 { exit(4); }") as tracer:
        tracer.send_signal(signal.SIGUSR1)
        output, errors = tracer.communicate(timeout=10)
    assert (output, errors, tracer.returncode) == ("\n\n", "", 4)


def test_a_probe_of_a_process_that_is_over_already(capfd: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
        assert run_words(["-p", str(process.pid), "-e", "interval:s:1 { }"]) == 1
    assert capfd.readouterr().err.startswith("ERROR: Failed to attach to pid: No such process")


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("begin { }", 0),
        ("begin { exit(); }", 0),
        ("begin { exit(3); }", 3),
        ("end { exit(4); }", 4),
        ("begin { exit(3); } end { exit(4); }", 3),
        ("interval:ms:1 { exit(255); }", 255),
        ("begin { nope(); }", 1),
        ("begin {", 1),
    ],
)
def test_exit_statuses(program: str, status: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_words(["-q", "-e", program]) & 0xFF == status
    assert bool(capfd.readouterr().err) == (status == 1)


def test_elements_of_an_array_in_the_context(capfd: pytest.CaptureFixture[str]) -> None:
    """A known element is loaded where it is, any other one from a copy of the array."""
    program = """
        tracepoint:raw_syscalls:sys_enter /pid == cpid && args.id == 231/ {
            $i = (uint64)(nsecs == 0);
            printf("%d %d\\n", args.args[0], args.args[$i]);
        }
    """
    assert run_words(["-q", "-e", program, "-c", "sh -c 'exit 7'"]) == 0
    assert capfd.readouterr().out == "7 7\n\n\n"


@pytest.mark.parametrize(("side", "fields"), [("enter", ("id",)), ("exit", ("id", "ret"))])
def test_all_calls_without_their_records_are_the_same_calls(side: str, fields: tuple[str, ...]) -> None:
    """By the raw tracepoint, which is cheaper, as by the event's record, which the whole of args needs."""
    raw, record = (", ".join(f"{owner}.{field}" for field in fields) for owner in ("args", "$all"))
    program = f"""
        tracepoint:raw_syscalls:sys_{side} {{ @raw[{raw}] = count(); }}
        tracepoint:raw_syscalls:sys_{side} {{ $all = args; @record[{record}] = count(); }}
    """
    result = run(program, command=["ls", "-l", "/", "/nowhere"])
    by_name = {event.name: event.to_dict() for event in result.events if isinstance(event, MapSnapshot)}
    assert by_name["@raw"] == by_name["@record"]
    assert len(by_name["@raw"]) > 10
