"""Kernel functions: kprobe, kretprobe, fentry and fexit, with what a program is given there.

The traced program is `files` of `workloads`; each session sees that program only.  What it does
can be told from what starting a program does: reads into 4711 bytes, and folders made and removed.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from invivo.diagnostics import CompileError
from invivo.events import Event, MapSnapshot, Value
from invivo.probes.facts import LiveFacts
from invivo.probes.listing import list_probes
from running import Result, run
from workloads import build


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command; it leaves a file behind that it makes anew."""
    folder = tmp_path_factory.mktemp("files")
    return [str(build("files", folder)), str(folder)]


def final(events: list[Event], name: str) -> dict[Value, Value]:
    (snapshot,) = (event for event in events if isinstance(event, MapSnapshot) and event.name == name)
    return snapshot.to_dict()


def traced(program: str, command: list[str]) -> Result:
    (Path(command[1]) / "thousand").unlink(missing_ok=True)
    result = run(program, command=command)
    assert (result.status, result.errors) == (0, "")
    return result


def keys(events: list[Event], name: str) -> set[Value]:
    return set(final(events, name))


# -- arguments and results -----------------------------------------------------------------------

READS = {400: 1, 300: 2, 0: 1}


@pytest.mark.requires("kprobe")
def test_kprobe_has_numbered_arguments(files: list[str]) -> None:
    program = """
        kprobe:vfs_read /arg2 == 4711/ {
            @names[str(((struct file *)arg0).f_path.dentry.d_name.name)] = count();
            @sizes[arg2] = count();
            @offsets[*(int64*)arg3] = count();
        }
    """
    events = traced(program, files).events
    assert final(events, "@names") == {"thousand": 4}
    assert final(events, "@sizes") == {4711: 4}
    assert final(events, "@offsets") == {0: 1, 400: 1, 700: 1, 1000: 1}


@pytest.mark.requires("kprobe")
def test_kprobe_has_arguments_by_name_and_type(files: list[str]) -> None:
    program = """
        kprobe:vfs_read /args.count == 4711/ {
            @names[str(args.file.f_path.dentry.d_name.name)] = count();
            @offsets[*args.pos] = count();
        }
        kprobe:vfs_mkdir, kprobe:vfs_rmdir { @folders[func, str(args.dentry.d_name.name)] = count(); }
    """
    events = traced(program, files).events
    assert final(events, "@names") == {"thousand": 4}
    assert final(events, "@offsets") == {0: 1, 400: 1, 700: 1, 1000: 1}
    assert final(events, "@folders")[("vfs_mkdir", "folder")] == 3
    assert final(events, "@folders")[("vfs_rmdir", "folder")] == 3


@pytest.mark.requires("kprobe")
def test_an_alternative_takes_the_place_of_what_is_not_there(files: list[str]) -> None:
    """A function that has been renamed: the first that is there is taken, with the same names of arguments."""
    program = """
        fentry:vfs_read_of_the_future or kprobe:vfs_read or kprobe:vfs_write /args.count == 4711/ {
            @[probe] = count();
        }
    """
    assert final(traced(program, files).events, "@") == {"kprobe:vfs_read": 4}


@pytest.mark.requires("kprobe")
def test_kretprobe_has_the_result(files: list[str]) -> None:
    program = """
        kprobe:vfs_read /arg2 == 4711/ { @reading[tid] = 1; }
        kretprobe:vfs_read /@reading[tid]/ { @[retval] = count(); delete(@reading, tid); }
    """
    events = traced(program, files).events
    assert final(events, "@") == READS
    assert final(events, "@reading") == {}


@pytest.mark.requires("kprobe")
def test_kretprobe_has_a_negative_result(files: list[str]) -> None:
    program = "kretprobe:vfs_rmdir { @[(int32)retval] = count(); }"
    assert final(traced(program, files).events, "@") == {0: 3, -39: 1}  # ENOTEMPTY


@pytest.mark.requires("fentry")
def test_fentry_has_typed_arguments(files: list[str]) -> None:
    program = """
        fentry:vfs_read /args.count == 4711/ {
            @names[str(args.file.f_path.dentry.d_name.name)] = count();
            @offsets[*args.pos] = count();
        }
        fentry:vfs_mkdir { @made[str(args.dentry.d_name.name), args.mode & 0777] = count(); }
    """
    events = traced(program, files).events
    assert final(events, "@names") == {"thousand": 4}
    assert final(events, "@offsets") == {0: 1, 400: 1, 700: 1, 1000: 1}
    assert final(events, "@made") == {("folder", 0o710): 3}


@pytest.mark.requires("fentry")
def test_fexit_has_arguments_and_result(files: list[str]) -> None:
    program = """
        fexit:vfs_read /args.count == 4711/ {
            @bytes = hist(retval); @[comm] = sum(args.count); @got[retval] = count();
        }
        fexit:vfs_rmdir { @removed[retval] = count(); }
    """
    result = traced(program, files)
    assert final(result.events, "@") == {"files": 4 * 4711}
    assert final(result.events, "@got") == READS
    assert final(result.events, "@removed") == {0: 3, -39: 1}  # ENOTEMPTY
    bars = re.findall(r"^(\[.*?[])]) +(\d+) \|", result.text.partition("@bytes:\n")[2], re.MULTILINE)
    assert {interval: count for interval, count in bars if count != "0"} == {"[0]": "1", "[256, 512)": "3"}


@pytest.mark.requires("fentry")
def test_what_the_issue_of_function_tracing_asks(files: list[str]) -> None:
    program = "fexit:vfs_read { @bytes = hist(retval); @[comm] = sum(args.count); }"
    result = traced(program, files)
    (total,) = final(result.events, "@").values()
    assert isinstance(total, int)
    assert total >= 4 * 4711
    assert "[256, 512)" in result.text


# -- wildcards -----------------------------------------------------------------------------------


@pytest.mark.requires("kprobe", "function_tracer")
def test_kprobe_wildcard(files: list[str]) -> None:
    counts = final(traced("kprobe:vfs_* { @[probe] = count(); }", files).events, "@")
    assert counts["kprobe:vfs_mkdir"] == 3
    assert counts["kprobe:vfs_rmdir"] == 4
    assert {"kprobe:vfs_read", "kprobe:vfs_open"} <= counts.keys()
    assert all(isinstance(name, str) and name.startswith("kprobe:vfs_") for name in counts)


@pytest.mark.requires("kprobe", "function_tracer")
def test_kretprobe_wildcard(files: list[str]) -> None:
    program = "kretprobe:vfs_*dir { @[probe, func, (int32)retval] = count(); }"
    assert final(traced(program, files).events, "@") == {
        ("kretprobe:vfs_mkdir", "vfs_mkdir", 0): 3,
        ("kretprobe:vfs_rmdir", "vfs_rmdir", 0): 3,
        ("kretprobe:vfs_rmdir", "vfs_rmdir", -39): 1,
    }


@pytest.mark.requires("fentry", "function_tracer")
def test_fentry_wildcard(files: list[str]) -> None:
    program = """
        fentry:vfs_*dir { @entered[probe, func] = count(); @names[str(args.dentry.d_name.name)] = count(); }
        fexit:vfs_*dir { @left[func, retval] = count(); }
    """
    events = traced(program, files).events
    assert final(events, "@entered") == {
        ("fentry:vmlinux:vfs_mkdir", "vfs_mkdir"): 3,
        ("fentry:vmlinux:vfs_rmdir", "vfs_rmdir"): 4,
    }
    assert final(events, "@names") == {"folder": 6, os.path.basename(files[1]): 1}
    assert final(events, "@left") == {("vfs_mkdir", 0): 3, ("vfs_rmdir", 0): 3, ("vfs_rmdir", -39): 1}


@pytest.mark.requires("kprobe", "function_tracer")
def test_several_probes_share_a_body(files: list[str]) -> None:
    program = "kprobe:vfs_mkdir, kprobe:vfs_rmdir, kprobe:vfs_*xattr { @[func] = count(); }"
    counts = final(traced(program, files).events, "@")
    assert (counts["vfs_mkdir"], counts["vfs_rmdir"]) == (3, 4)


@pytest.mark.requires("kprobe", "function_tracer")
def test_functions_of_a_module(files: list[str]) -> None:
    """In a guest the file system is overlay's; elsewhere it is mostly not loaded."""
    if not Path("/sys/module/overlay").exists():
        pytest.skip("requires the module overlay to be loaded")
    program = "kprobe:overlay:ovl_open* { @[probe] = count(); }"
    assert "kprobe:overlay:ovl_open" in final(traced(program, files).events, "@")


# -- stacks --------------------------------------------------------------------------------------


@pytest.mark.requires("kprobe")
def test_stacks_at_kprobes_begin_with_the_function(files: list[str]) -> None:
    program = 'kprobe:vfs_mkdir { printf("%s", kstack(4)); exit(); }'
    frames = [line.strip().partition("+")[0] for line in traced(program, files).text.splitlines() if line.strip()]
    assert frames[:2] == ["vfs_mkdir", "do_mkdirat"]


@pytest.mark.requires("fentry")
@pytest.mark.parametrize("provider", ["fentry", "fexit"])
def test_stacks_at_typed_probes_begin_with_the_function(provider: str, files: list[str]) -> None:
    program = provider + ':vfs_mkdir { printf("%s", kstack(4)); exit(); }'
    frames = [line.strip().partition("+")[0] for line in traced(program, files).text.splitlines() if line.strip()]
    assert frames[:2] == ["vfs_mkdir", "do_mkdirat"]


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.requires("kprobe", "fentry", "function_tracer")
@pytest.mark.parametrize("provider", ["kretprobe", "fentry"])
def test_the_nearest_name_is_told(provider: str, files: list[str]) -> None:
    with pytest.raises(CompileError) as caught:
        traced(f"{provider}:vfs_raed {{ @ = count(); }}", files)
    (diagnostic,) = caught.value.diagnostics
    assert "no such function" in diagnostic.message
    assert "vfs_read" in str(diagnostic.hint)


@pytest.mark.requires("kprobe")
def test_nothing_stays(files: list[str]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    traced("kprobe:vfs_mkdir, kretprobe:vfs_mkdir { @ = count(); }", files)
    assert len(os.listdir("/proc/self/fd")) == before


# -- the whole system ----------------------------------------------------------------------------


@pytest.mark.requires("kprobe", "fentry", "function_tracer")
def test_other_processes_are_seen_without_a_scope(files: list[str]) -> None:
    """`invivo-bpftrace` does not restrict a program to its command: this process is counted, too."""
    program = """
        kprobe:vfs_* { @[probe] = count(); }
        fexit:vfs_read { @bytes = hist(retval); @sums[comm, pid == $1] = sum(args.count); }
    """
    (Path(files[1]) / "thousand").unlink(missing_ok=True)
    words = [sys.executable, "-c", "from invivo.cli.bpftrace import main; main()", "-e", program, str(os.getpid())]
    words += ["-c", shlex.join(files)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tracer:
        while tracer.poll() is None:
            Path("/etc/passwd").read_bytes()
            time.sleep(0.01)
        output, errors = tracer.communicate()
    assert tracer.returncode == 0, errors
    counts = dict(re.findall(r"^@\[kprobe:(\w+)\]: (\d+)$", output, re.MULTILINE))
    assert int(counts["vfs_rmdir"]) >= 4
    assert all(name.startswith("vfs_") for name in counts)
    sums = dict(re.findall(r"^@sums\[(\w+), [a-z0-9]+\]: (\d+)$", output, re.MULTILINE))
    assert int(sums["files"]) >= 4 * 4711
    assert re.search(r"^@sums\[\w+, (1|true)\]: \d+$", output, re.MULTILINE), output
    assert "@bytes:" in output


# -- listing -------------------------------------------------------------------------------------


@pytest.mark.requires("kprobe", "fentry", "function_tracer")
def test_functions_are_listed_with_their_arguments() -> None:
    facts = LiveFacts()
    try:
        found = [listed.name for listed in list_probes("kprobe:vfs_*", facts)]
        assert found == sorted(found)
        assert {"kprobe:vfs_read", "kprobe:vfs_mkdir"} <= set(found)
        (read,) = list_probes("fexit:vfs_read", facts, verbose=True)
        assert read.name == "fexit:vmlinux:vfs_read"
        assert ("struct file *", "file") in read.parameters
    finally:
        facts.close()
