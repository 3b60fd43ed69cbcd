"""Tables: what a trace prints is read back by pandas, typed and complete; an end that is not clean is seen."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import invivo

pandas = pytest.importorskip("pandas", reason="pandas is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")

INVIVO = (sys.executable, "-m", "invivo", "run", "-q")
# Three system calls that find nothing and are told apart by their arguments.
CALLS = "import os\nfor fd in range(1000, 4000):\n try: os.lseek(fd, -fd, 0)\n except OSError: pass"
LSEEK = "tracepoint:syscalls:sys_enter_lseek /args.fd >= 1000/"


def _trace(tmp_path: Path, program: str, *words: str) -> Any:
    path = tmp_path / "events.parquet"
    script = tmp_path / "calls.py"
    script.write_text(CALLS)
    command = [*INVIVO, "-o", str(path), *words, "-e", program, "-c", f"{sys.executable} {script}"]
    subprocess.run(command, check=True, timeout=120)
    return pandas.read_parquet(path)


def test_a_row_an_event_a_column_a_value(tmp_path: Path) -> None:
    program = f'{LSEEK} {{ printf("%d %d %s %p %s\\n", args.fd, (int64)args.offset, comm, (void *)7, probe); }}'
    table = _trace(tmp_path, program)
    assert list(table.columns) == ["event", "fd", "offset", "comm", "value_4", "probe"]
    assert table["fd"].tolist() == list(range(1000, 4000))
    assert table["offset"].tolist() == [-fd for fd in range(1000, 4000)]
    assert len(set(table["comm"])) == 1
    assert set(table["value_4"]) == {7}
    assert set(table["probe"]) == {"tracepoint:syscalls:sys_enter_lseek"}
    assert [str(table[name].dtype) for name in ("fd", "offset", "value_4")] == ["uint32", "int64", "uint64"]
    facts = parquet.read_metadata(tmp_path / "events.parquet").metadata
    assert (facts[b"invivo.reason"], facts[b"invivo.status"], facts[b"invivo.losses"]) == (b"child", b"0", b"[]")


def test_python_gets_the_table_without_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    program = (
        f'{LSEEK} {{ printf("%d %s\\n", args.fd, comm); @ = count(); }} END {{ printf("over\\n"); time("now\\n"); }}'
    )
    table = invivo.trace_table(program, command=[sys.executable, "-c", CALLS])
    assert table.column_names == ["event", "fd", "comm"]
    assert table.num_rows == 3001
    columns = table.to_pydict()
    assert columns["fd"] == [*range(1000, 4000), None]
    assert len(set(columns["comm"])) == 2
    assert capsys.readouterr().err == "now\n"


def test_columns_of_a_last_statement_without_a_semicolon_have_names(tmp_path: Path) -> None:
    table = _trace(tmp_path, f'{LSEEK} {{ printf("%d %d", args.fd, (int64)args.offset) }}')
    assert list(table.columns) == ["event", "fd", "offset"]


def test_events_of_several_kinds_keep_their_order(tmp_path: Path) -> None:
    program = f"""{LSEEK} {{
        if (args.fd % 3 == 0) {{ printf("%d\\n", args.fd); }}
        else if (args.fd % 3 == 1) {{ print((args.fd, "one")); }}
        else {{ print((fd = (uint32)args.fd, name = comm)); }}
    }}"""
    table = _trace(tmp_path, program)
    assert table["fd"].tolist() == list(range(1000, 4000))
    assert table["event"].nunique() == 3
    ones = table[table["fd"] % 3 == 1]
    assert set(ones["value_2"]) == {"one"}
    assert table[table["fd"] % 3 == 0]["value_2"].isna().all()


def test_what_has_no_type_of_its_own_is_text(tmp_path: Path) -> None:
    program = f"""{LSEEK} {{ printf("%d %s %s %r\\n", args.fd, ntop(args.fd), kstack(1), buf(comm, 2)); }}"""
    table = _trace(tmp_path, program)
    addresses = [".".join(map(str, fd.to_bytes(4, "little"))) for fd in table["fd"]]
    assert table["fd_2"].tolist() == addresses
    assert all(stack.startswith("\n        ") and stack.endswith("\n") for stack in table["value_3"])
    assert {type(value) for value in table["comm"]} == {bytes}


def test_strings_of_all_lengths(tmp_path: Path) -> None:
    program = f"""{LSEEK} {{ if (args.fd < 1100) {{ $s = args.fd % 2 ? "a" : "a string that is longer than sixteen";
        printf("%s %s\\n", $s, args.fd == 1050 ? "" : "\\xff"); }} }}"""
    table = _trace(tmp_path, program)
    assert set(table["s"]) == {"a", "a string that is longer than sixteen"}
    assert table["value_2"].tolist().count("\ufffd") == 99


def test_strings_that_were_cut_say_so(tmp_path: Path) -> None:
    """As in text: one that fills the room of a string has its mark, whatever it stands among."""
    names = ["short", "six789", "seven89", "eight890", "much longer than that"]
    script = tmp_path / "calls.py"
    script.write_text(f"import os\nfor name in {names}:\n try: os.chdir(name)\n except OSError: pass")
    path = tmp_path / "events.parquet"
    program = 'config = { max_strlen = 8 } tracepoint:syscalls:sys_enter_chdir { printf("%s\\n", str(args.filename)); }'
    command = ["-e", program, "-c", f"{sys.executable} {script}"]
    subprocess.run([*INVIVO, "-o", str(path), *command], check=True, timeout=60)
    text = subprocess.run([*INVIVO, *command], capture_output=True, text=True, check=True, timeout=60).stdout
    expected = ["short", "six789", "seven89..", "eight89..", "much lo.."]
    assert (pandas.read_parquet(path)["filename"].tolist(), text.splitlines()) == (expected, expected)


def test_maps_are_files_beside_it(tmp_path: Path) -> None:
    program = f"{LSEEK} {{ @n[comm, args.fd % 2] = count(); @h = hist(args.fd); @s = stats(args.fd); }}"
    table = _trace(tmp_path, program)
    assert len(table) == 0
    counts = pandas.read_parquet(tmp_path / "events.n.parquet")
    assert counts["value"].tolist() == [1500, 1500]
    assert sorted(counts["key_2"]) == [0, 1]
    buckets = pandas.read_parquet(tmp_path / "events.h.parquet")
    assert (buckets["low"].tolist(), buckets["count"].sum()) == ([512, 1024, 2048], 3000)
    assert pandas.read_parquet(tmp_path / "events.s.parquet")["total"].tolist() == [sum(range(1000, 4000))]


def test_maps_have_the_types_of_the_program_whatever_comes_first(tmp_path: Path) -> None:
    """Small numbers in a first snapshot, and what no signed number can hold in a later one; a map without a name."""
    path = tmp_path / "events.parquet"
    program = """BEGIN { @map[(uint64)1] = (uint64)2; @ = 0; @pair[1] = (1, "x"); @yes[1] = true; @name[comm] = comm; }
        interval:ms:50 { if (@ == 1) { @map[(uint64)-1] = (uint64)-2; } print(@map);
            if (@ == 2) { exit(); } @ = @ + 1; }"""
    subprocess.run([*INVIVO, "-o", str(path), "-e", program, "-p", str(os.getpid())], check=True, timeout=60)
    held = parquet.read_table(tmp_path / "events.map.parquet").to_pylist()
    assert [row for row in held if row["snapshot"] == 1] == [{"snapshot": 1, "key": 1, "value": 2}]
    assert held[-1] == {"snapshot": held[-1]["snapshot"], "key": (1 << 64) - 1, "value": (1 << 64) - 2}
    assert pandas.read_parquet(tmp_path / "events.@.parquet")["value"].tolist() == [2]
    pair = parquet.read_table(tmp_path / "events.pair.parquet").to_pylist()
    assert pair == [{"snapshot": 1, "key": 1, "value_1": 1, "value_2": "x"}]
    assert pandas.read_parquet(tmp_path / "events.yes.parquet")["value"].tolist() == [True]
    (name,) = parquet.read_table(tmp_path / "events.name.parquet").to_pylist()
    assert name["key"] == name["value"] != ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["ended", "killed"])
def test_the_end(tmp_path: Path, number: signal.Signals) -> None:
    """Who is asked to end writes the file's end; without one, nobody takes the file for a complete one."""
    path = tmp_path / "events.parquet"
    program = 'BEGIN { printf("%d\\n", 1); } interval:s:100 { @ = 1; }'
    with subprocess.Popen([*INVIVO, "-o", str(path), "-e", program, "-p", str(os.getpid())]) as tracer:
        while not path.exists() or path.stat().st_size == 0:
            time.sleep(0.01)
        tracer.send_signal(number)
    if number is signal.SIGTERM:
        assert pandas.read_parquet(path)["value"].tolist() == [1]
    else:
        with pytest.raises(ValueError, match="Parquet"):
            pandas.read_parquet(path)


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    command = [*INVIVO, "-f", "parquet", "-o", "/dev/full", "-e", 'BEGIN { printf("%d\\n", 1); exit(); }']
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (1, "invivo run: cannot write '/dev/full': No space left on device\n")


def test_without_a_file_and_without_the_library() -> None:
    run = subprocess.run([*INVIVO, "-f", "parquet", "-e", "BEGIN { }"], check=False, capture_output=True, text=True)
    assert run.returncode == 2
    assert "-f parquet needs a file" in run.stderr
    blocked = "import sys; sys.modules['pyarrow'] = None; from invivo.cli.main import main; main()"
    words = ["run", "-o", "/dev/null", "-f", "parquet", "-e", "BEGIN { }"]
    run = subprocess.run([sys.executable, "-c", blocked, *words], check=False, capture_output=True, text=True)
    assert run.returncode == 1
    assert "pip install 'invivo[parquet]'" in run.stderr


class _Shapes(doctest.OutputChecker):
    """Numbers differ from run to run."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return re.sub(r"[0-9]+", "#", want).split() == re.sub(r"[0-9]+", "#", got).split()


def test_the_manual_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "tables.md"
    text = page.read_text()
    monkeypatch.chdir(tmp_path)
    (command,) = re.findall(r"^    \$ (invivo .*)", text, re.MULTILINE)
    _, *words = shlex.split(command)
    subprocess.run([Path(sys.executable).with_name("invivo"), *words], check=True, timeout=60)
    examples = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    runner = doctest.DocTestRunner(_Shapes())
    runner.run(examples)
    assert (runner.failures, runner.tries) == (0, len(examples.examples))
    assert runner.tries == 7
