"""bpftrace's own command line: what each option does and says, with which exit status and on which stream."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from invivo.cli import tracing
from invivo.cli.bpftrace import run_words
from invivo.kernel import capabilities
from invivo.probes.facts import LiveFacts

BPFTRACE = (sys.executable, "-c", "from invivo.cli.bpftrace import main; main()")
NO_LLVM = "it compiles without LLVM"
HOOK = "__BPFTRACE_NOTIFY_PROBES_ATTACHED"


def bpftrace(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*BPFTRACE, *words),
        input="",
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | (env or {}),
        check=False,
    )


@pytest.mark.parametrize(
    ("program", "out", "err"),
    [
        pytest.param('begin { printf("%d %d\\n", $1, $#); }', "7 1\n\n\n", "", id="a program"),
        pytest.param("begin { foo }", "", "stdin:1:9-12: ERROR: Unknown identifier: 'foo'\n", id="a mistake"),
    ],
)
def test_a_program_on_standard_input(program: str, out: str, err: str) -> None:
    done = subprocess.run(
        (*BPFTRACE, "-q", "-", "7"), input=program, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == out
    assert done.stderr.startswith(err)
    assert done.returncode == bool(err)


def test_functions_of_a_process_are_listed(capfd: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen(["/bin/bash", "-c", "read"], stdin=subprocess.PIPE) as shell:
        while os.readlink(f"/proc/{shell.pid}/exe") != os.path.realpath("/bin/bash"):
            pass
        for pattern in ("uprobe:readline", "readline"):
            assert run_words(["-l", "-p", str(shell.pid), pattern]) == 0
            assert capfd.readouterr().out == f"uprobe:{os.path.realpath('/bin/bash')}:readline\n"
        shell.communicate()


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_words(["--version"]) == 0
    assert capfd.readouterr().out == "bpftrace v0.26.1\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["-kk"], "ERROR: -kk has been deprecated.", id="-kk"),
        pytest.param(["-k", "--no-warnings"], "USAGE: -k conflicts with --no-warnings", id="-k --no-warnings"),
        pytest.param(["--test", "--bench"], "USAGE: --bench conflicts with existing --mode", id="--test --bench"),
        pytest.param(["--mode", "test", "--fmt"], "USAGE: --fmt conflicts with existing --mode", id="--mode --fmt"),
        pytest.param(["--mode", "nope"], "USAGE: invalid option for --mode: nope", id="--mode"),
        pytest.param(["-d", "ast,nope"], "USAGE: invalid option for -d: nope", id="-d"),
        pytest.param(["-d", "codegen"], f"ERROR: -d codegen is not supported by invivo: {NO_LLVM}", id="-d codegen"),
        pytest.param(["-d", "codegen-opt"], "ERROR: -d codegen-opt is not supported by invivo", id="-d codegen-opt"),
        pytest.param(["--no-feature", "nope"], "USAGE: --no-feature can only have values", id="--no-feature"),
        pytest.param(["-p", "nope"], "ERROR: Failed to parse pid: ", id="-p word"),
        pytest.param(["-p", "4194305"], "ERROR: Pid out of range: 4194305\n", id="-p too large"),
        pytest.param(["-p", "4194303"], "ERROR: Failed to attach to pid: No such process", id="-p nobody"),
        pytest.param(
            ["-c", "nope-nope -x"],
            "ERROR: Failed to fork child: path 'nope-nope' does not exist or is not executable\n",
            id="-c nothing",
        ),
        pytest.param(
            ["-c", "/etc/passwd"],
            "ERROR: Failed to fork child: path '/etc/passwd' does not exist or is not executable\n",
            id="-c no program",
        ),
        pytest.param(["-c", "'"], "ERROR: Failed to fork child: -c: no closing quotation", id="-c quotes"),
        pytest.param(
            ["-o", "/nope/x"], 'ERROR: Failed to open output file: "/nope/x": No such file or directory\n', id="-o"
        ),
        pytest.param(["-B"], "option requires an argument -- 'B'\nUSAGE:", id="a value is missing"),
    ],
)
def test_refusals(words: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    # -e first: a missing value is at the end
    assert run_words(["-e", "begin { }", *words]) == 1
    printed = capfd.readouterr()
    assert said in printed.err
    assert printed.out == ""


def test_a_stage_is_shown_and_the_program_runs(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_words(["-q", "-d", "ast", "-e", 'begin { printf("%d\\n", 6 * 7); }']) == 0
    assert capfd.readouterr().out == 'begin {\n    printf("%d\\n", 6 * 7);\n}\n42\n\n\n'
    assert run_words(["-q", "-d", "verifier", "-d", "libbpf", "-e", "begin { }"]) == 0
    assert "verifier's log of probe0:\nprocessed " in capfd.readouterr().err


def test_verbose(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_words(["-v", "-e", "begin { exit(); } tracepoint:syscalls:sys_enter_getsid /0/ { }"]) == 0
    assert capfd.readouterr().err == (
        "Attaching 'begin' probe\nTrying to attach probe: tracepoint:syscalls:sys_enter_getsid\nAttached 2 probes\n"
    )


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_hook_of_tests(form: str) -> None:
    done = bpftrace("-q", "-f", form, "-e", 'begin { printf("x\\n"); }', env={HOOK: "1"})
    assert done.stdout.startswith(HOOK + "\n")
    assert "x" in done.stdout.removeprefix(HOOK)
    assert HOOK not in bpftrace("--dry-run", "-e", "begin { }", env={HOOK: "1"}).stdout


def test_dry_run_shows_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    program = 'begin { printf("begin\\n"); @ = 1; } end { printf("end\\n"); } interval:s:1 { }'
    assert run_words(["--dry-run", "-e", program]) == 0
    assert capfd.readouterr() == ("", "")


def test_output_of_the_program_goes_to_a_file_and_the_rest_does_not(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "result"
    program = 'begin { printf("to file\\n"); @a = 1; errorf("to stderr"); } interval:s:100 { }'
    assert run_words(["-o", str(result), "-e", program, "-c", "/bin/echo from the command"]) == 0
    printed = capfd.readouterr()
    assert result.read_text() == "to file\n\n\n@a: 1\n"
    assert printed.out == "from the command\n"
    assert "Attached 2 probes\n" in printed.err
    assert "ERROR: to stderr\n" in printed.err


def test_features_that_are_not_used() -> None:
    without = LiveFacts(without=("kprobe_multi", "uprobe_multi"))
    assert not without.has("kprobe_multi")
    assert not without.has("uprobe_multi")
    assert without.has("btf")


def test_what_the_command_line_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tracing.Request] = []

    def trace(request: tracing.Request) -> int:
        asked.append(request)
        return 0

    monkeypatch.setattr(tracing, "trace", trace)
    words = ["--no-feature", "uprobe_multi,kprobe_multi", "--no-feature", "kprobe_session"]
    assert run_words([*words, "--traceable-functions", "/list", "--debuginfo", "/a:+/b", "-e", "begin { }"]) == 0
    (request,) = asked
    assert request.without == ("uprobe_multi", "kprobe_multi", "kprobe_session")
    assert request.functions_file == "/list"
    assert request.debug_directories == ("/a", "/b")


def test_a_list_of_traceable_functions(tmp_path: Path) -> None:
    functions = tmp_path / "functions"
    functions.write_text("vfs_read\nvfs_write\ntcp_reset [tcp]\n")
    facts = LiveFacts(functions_file=str(functions))
    assert facts.functions("*", "*") == [("tcp_reset", "tcp"), ("vfs_read", "vmlinux"), ("vfs_write", "vmlinux")]
    assert facts.functions("vmlinux", "*_r*") == [("vfs_read", "vmlinux")]
    assert run_words(["--traceable-functions", str(functions), "--dry-run", "-e", "begin { }"]) == 0


def test_nameless_members_of_a_listed_type(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_words(["-lv", "union bpf_attr"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].endswith("union bpf_attr {")
    assert lines[1:3] == ["\tstruct {", "\t\t__u32 map_type;"]
    assert "\t} batch;" in lines
    assert lines[-2:] == ["};", ""]
    assert not any("..." in line for line in lines)


@pytest.mark.parametrize("words", ["'-e', 'begin { }'", "'--info'", "'-l', 'begin'"])
def test_without_capabilities(words: str) -> None:
    """A first run loads everything: nobody may not read this checkout."""
    program = (
        "import os, sys; from invivo.cli.bpftrace import run_words; run_words(['-q', '-e', 'begin { }']);"
        f"run_words([{words}]); os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "run_words(['--fmt', '-e', 'begin{}']); print('--', flush=True);"
        f"sys.exit(run_words([{words}]))"
    )
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.splitlines()[-1] == "ERROR: Missing CAP_BPF capability, please run bpftrace as the root user."
    assert done.stdout.endswith("begin { }\n--\n")  # formatting needs none
    assert done.returncode == 1


def test_a_kernel_that_is_locked_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told = tmp_path / "lockdown"
    told.write_text("none [integrity] confidentiality\n")
    assert capabilities.lockdown(str(told)) == "integrity"
    told.write_text("none integrity [confidentiality]\n")
    assert capabilities.lockdown(str(told)) == "confidentiality"
    assert capabilities.lockdown(str(tmp_path / "nothing")) == "none"
    monkeypatch.setattr(capabilities, "lockdown", lambda: "confidentiality")
    assert run_words(["-e", "begin { }"]) == 1
    assert capfd.readouterr().err.startswith("ERROR: Kernel lockdown is enabled and set to 'confidentiality'.")
