"""Tests, benchmarks and the tracer's own signal: what the session runs itself because it is asked to."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from invivo.cli.bpftrace import run_words

TESTS = """
    test:fine { printf("hi\\n"); }
    test:wrong { return 1; }
    test:in_a_loop { for ($i : 0..5) { if ($i == 3) { return 7; } } return 0; }
    test:said { assert(1 == 2, "no good"); }
    test:right { assert(1 == 1, "never"); return 0; }
    bench:count { @ = count(); printf("away\\n"); }
    BEGIN { printf("not in a test\\n"); }
"""


def test_tests(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_words(["--test", "-e", TESTS]) == 1
    printed = capfd.readouterr()
    assert printed.err == ""
    lines = [re.sub(r"\x1b\[\d+m|\(\d+ (ns|us|ms)\)", "", line).rstrip() for line in printed.out.splitlines()]
    assert lines == [
        "[ RUN      ] fine",
        "hi",
        "[       OK ] fine",
        "[ RUN      ] wrong",
        "[  FAILED  ] wrong",
        "[ RUN      ] in_a_loop",
        "[  FAILED  ] in_a_loop",
        "[ RUN      ] said",
        "stdlib/assert.bt:4:9-45: ERROR: assert failed: no good",
        "stdin:5:17-42: ERROR: expanded from",
        "[  FAILED  ] said",
        "[ RUN      ] right",
        "[       OK ] right",
        "[==========] 5 tests ran",
        "[  PASSED  ] 2 tests",
        "[  FAILED  ] 3 tests, listed below:",
        "[  FAILED  ] wrong",
        "[  FAILED  ] in_a_loop",
        "[  FAILED  ] said",
    ]
    assert "\x1b[32m[ RUN      ]\x1b[0m fine" in printed.out


def test_tests_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_words(["--mode", "test", "-f", "json", "-e", 'test:a { printf("x\\n"); } test:b { exit(3); }']) == 1
    results = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [result["type"] for result in results] == ["test_result"] * 2
    (first,), (second,) = (result["data"].values() for result in results)
    assert (first["passed"], first["output"], second["passed"]) == (True, "x\n", False)
    assert 0 < first["duration"] < 10**9
    assert run_words(["--test", "-e", "test:a { }"]) == 0


def test_benchmarks(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_words(["--bench", "-e", TESTS]) == 0
    header, dashes, row = capfd.readouterr().out.splitlines()
    assert header.split() == ["Benchmark", "Time(ns)", "Iterations"]
    assert dashes == "-" * len(header)
    name, average, runs = row.split()
    assert name == "count"
    assert 0 < int(average) < 100_000
    assert int(runs) >= 100
    assert run_words(["--bench", "-f", "json", "-e", TESTS]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["type"] == "benchmark_result"
    assert sorted(result["data"]["count"]) == ["average", "iters"]


def test_without_being_asked_there_are_no_tests(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_words(["-q", "-e", TESTS]) == 0
    assert capfd.readouterr().out.split("\n") == ["not in a test", "", "", ""]


def test_names_are_told_apart(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_words(["--test", "-e", "test:n { } test:n { }"]) == 1
    assert '"n" was used as the name for more than one TEST probe' in capfd.readouterr().err
    assert run_words(["--test", "--bench", "-e", "test:n { }"]) == 1
    assert "USAGE: --bench conflicts with existing --mode" in capfd.readouterr().err


def test_what_is_not_there_says_why(capfd: pytest.CaptureFixture[str]) -> None:
    for option in ("--aot", "--emit-elf", "--emit-llvm"):
        assert run_words([option, "file", "-e", "BEGIN { }"]) == 1
        assert f"ERROR: {option} is not supported by invivo: " in capfd.readouterr().err
    assert run_words(["--mode", "compiler-bench", "-e", "BEGIN { }"]) == 1
    assert "ERROR: --mode compiler-bench is not supported by invivo: " in capfd.readouterr().err


def test_a_script_is_formatted(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_words(["--fmt", "-e", 'BEGIN{if(1){printf("a\\n");}// there\n}']) == 0
    printed = capfd.readouterr()
    assert printed.out == 'BEGIN {\n    if (1) {\n        printf("a\\n");\n    } // there\n}\n'
    assert printed.err == ""


def test_only_probes_that_match_the_filter(capfd: pytest.CaptureFixture[str]) -> None:
    program = 'BEGIN { printf("here\\n"); exit(); } t:syscalls:sys_enter_getppid, t:syscalls:sys_enter_getsid /0/ { }'
    assert run_words(["--probe-filter", "getp+id$", "-e", program]) == 0
    printed = capfd.readouterr()
    assert printed.out.startswith("here\n")
    assert "Attached 2 probes" in printed.err
    assert run_words(["--probe-filter", "nothing", "-e", "t:syscalls:sys_enter_getppid /0/ { }"]) == 1
    assert "ERROR: No probes to attach\n" in capfd.readouterr().err
    assert run_words(["--probe-filter", "(", "-e", program]) == 1
    assert "Invalid regular expression for --probe-filter" in capfd.readouterr().err


def test_a_signal_to_the_tracer_runs_its_probe() -> None:
    program = 'BEGIN { printf("ready\\n"); } self:signal:SIGUSR1 { @ = count(); if (@ == 2) { exit(4); } } END { }'
    command = [sys.executable, "-m", "invivo", "run", "-q", "-B", "none", "-e", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tracer:
        assert tracer.stdout is not None
        assert tracer.stdout.readline() == "ready\n"
        os.kill(tracer.pid, signal.SIGUSR1)
        while tracer.poll() is None:
            # Signals that come together are one: the second is sent until it has been seen.
            os.kill(tracer.pid, signal.SIGUSR1)
            try:
                tracer.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
        assert tracer.returncode == 4
        assert tracer.stdout.read().strip() == "@: 2"
