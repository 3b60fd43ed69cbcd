"""tests/kernel on other kernels: each is booted once, and each of its tests is a subtest here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from guest import matrix
from guest.boot import Guest
from guest.packages import RELEASES, Kernel, MissingError, fetch_kernel, fetch_package, install_tools
from guest.runs import PROJECT, End, Guests, environment, follow
from guest.selection import BOOTS, KEPT, LEFT_OUT, RAN_NOWHERE, TARGETS, Boot
from guest.summary import Summary

_NO_TESTS = 5  # exit status of pytest


@pytest.fixture(scope="module")
def summary(pytestconfig: pytest.Config) -> Summary:
    found = pytestconfig.pluginmanager.get_plugin("guests")
    assert isinstance(found, Summary)
    return found


def kernel_of(release: str, summary: Summary) -> Kernel:
    """Return the kernel, or leave the test: where CI runs, a missing one is a failure."""
    try:
        install_tools()
        return fetch_kernel(release)
    except MissingError as error:
        summary.missing[release] = str(error)
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def guests(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, summary: Summary
) -> Iterator[Guests]:
    """Start all boots that this run asks for: they do not wait for each other's tests."""
    write_byte_code()
    fetch_programs()
    names = {item.callspec.params.get("boot") for item in request.session.items if hasattr(item, "callspec")}
    expression = request.config.getoption("--guest-tests")
    with Guests() as guests:
        for boot in BOOTS:
            if boot in names:
                try:
                    install_tools()
                    kernel = fetch_kernel(boot.release)
                except MissingError:
                    continue  # its test says so
                guests.start(boot, kernel, tmp_path_factory.mktemp("guest"), expression)
        yield guests


def fetch_programs() -> None:
    """Fetch the programs that tests trace: a guest has no network. What is missing is told by its test."""
    for package in ("fzf", "ripgrep"):
        with suppress(MissingError):
            fetch_package(package)


def write_byte_code() -> None:
    """Compile what the guests import: they keep nothing, and compiling takes them most of a minute."""
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    targets = sorted({target for boot in BOOTS for target in boot.targets})
    for words in (["compileall", "-q", "src", "tests"], ["pytest", "--collect-only", "-qq", *targets]):
        done = subprocess.run([sys.executable, "-m", *words], cwd=PROJECT, env=plain, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout.decode()


@pytest.mark.parametrize("boot", BOOTS, ids=[boot.name.replace(" ", "-") for boot in BOOTS])
def test_kernel(
    boot: Boot, guests: Guests, summary: Summary, subtests: pytest.Subtests, pytestconfig: pytest.Config
) -> None:
    kernel_of(boot.release, summary)
    outcomes: dict[str, str] = {}
    counts = {"passed": 0, "skipped": 0, "failed": 0}
    seconds: dict[str, float] = {}
    for result in guests.results(boot):
        if isinstance(result, End):
            assert not result.trouble, result.trouble
            if result.status == _NO_TESTS and counts == dict.fromkeys(counts, 0):
                pytest.skip("no test of this boot has such a name")
            summary.ran(boot, counts, result.seconds, seconds)
            assert result.status in (0, 1), result
            assert counts["passed"] + counts["failed"] > 0, counts
            if boot.targets == TARGETS:
                complete = not pytestconfig.getoption("--guest-tests")
                assert list(matrix.differences(matrix.read_rows(), boot.release, outcomes, complete=complete)) == []
            continue
        counts[result.outcome] += 1
        seconds[result.test] = result.seconds
        outcomes[result.test] = result.outcome
        if result.outcome != "skipped":
            summary.ran_in_guests.add(result.test)
        with subtests.test(msg=result.test):
            if result.outcome == "failed":
                pytest.fail(result.detail, pytrace=False)
            if result.outcome == "skipped":
                pytest.skip(result.detail)


# -- the proof that trouble is told --------------------------------------------------------------


def end_of(script: str, silence_s: float, folder: Path, summary: Summary) -> End:
    kernel = kernel_of(RELEASES[-1], summary)
    with Guest(kernel, ["sh", "-c", script], folder, PROJECT, environment(kernel)) as guest:
        (end,) = follow(guest, silence_s)
        processes = [guest.machine.pid, guest.files.pid]
    assert isinstance(end, End)
    assert not [pid for pid in processes if Path(f"/proc/{pid}").exists()]
    return end


def test_a_panic_is_told_with_the_console(tmp_path: Path, summary: Summary) -> None:
    end = end_of("echo c >/proc/sysrq-trigger", 60.0, tmp_path, summary)
    assert end.status == -1
    assert end.trouble.startswith("the guest ended before its command did; it ran nothing yet\n")
    assert "Kernel panic - not syncing: sysrq triggered crash" in end.trouble


def test_a_guest_that_hangs_is_told_with_the_test_that_it_ran(tmp_path: Path, summary: Summary) -> None:
    started = '{"test": "tests/kernel/test_it.py::test_it", "outcome": "started"}'
    end = end_of(f"echo here it hangs; echo '{started}' >/dev/ttyS1; sleep 1000", 25.0, tmp_path, summary)
    assert end.trouble.startswith("the guest said nothing for 25 seconds; it ran tests/kernel/test_it.py::test_it\n")
    assert "here it hangs" in end.trouble


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_a_kernel_that_is_missing_is_named(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    summary = Summary("")
    with pytest.raises(outcome, match=r"no Linux 1\.0 for a guest: "):
        kernel_of("1.0", summary)
    assert set(summary.missing) == {"1.0"}


# -- what ran nowhere ----------------------------------------------------------------------------


def test_every_kernel_test_ran_somewhere(summary: Summary) -> None:
    """Last of all tests: what was skipped on this machine and in all guests is in a reviewed list, or fails."""
    if not os.environ.get("CI"):
        pytest.skip("asked only where CI runs: a machine of one's own may lack much")
    if not summary.is_complete():
        pytest.skip("needs tests/kernel and all guests in the same run")
    nowhere = summary.skipped_here - summary.ran_in_guests
    assert sorted(test for test in nowhere if not test.startswith(tuple(RAN_NOWHERE))) == []


def test_the_matrix_is_true_here(summary: Summary) -> None:
    """The matrix' column of the development machine."""
    if not os.environ.get("CI"):
        pytest.skip("asked only where CI runs: a machine of one's own may lack much")
    if not summary.is_complete():
        pytest.skip("needs tests/kernel and all guests in the same run")
    if not os.uname().release.startswith(f"{matrix.HOST}."):
        pytest.skip(f"the matrix is about Linux {matrix.HOST}, this machine has {os.uname().release}")
    skipped = dict.fromkeys(summary.skipped_here, "skipped")
    assert list(matrix.differences(matrix.read_rows(), matrix.HOST, skipped | summary.outcomes_here)) == []


@pytest.mark.parametrize("beginning", [*LEFT_OUT, *KEPT, *RAN_NOWHERE])
def test_lists_name_tests_that_exist(beginning: str) -> None:
    file, _, test = beginning.partition("::")
    function, _, case = test.partition("[")
    assert f"def {function}" in (PROJECT / file).read_text()
    files = [PROJECT / "tests/kernel" / folder / f"{case}.test" for folder in ("language", "bpftrace")]
    assert not case or case.endswith("]") or any(each.exists() for each in files)
