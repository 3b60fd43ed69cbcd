"""Each kind of failure: what is said, and the exit status."""

from __future__ import annotations

import errno

import pytest

from invivo.cli.failures import guarded
from invivo.cli.options import UsageError
from invivo.errors import NotSupportedError, SyscallError, VerifierError


def raised(problem: BaseException) -> int:
    def command() -> int:
        raise problem

    return guarded("invivo run", command)


@pytest.mark.parametrize(
    ("problem", "status", "text"),
    [
        pytest.param(UsageError("unknown option -x"), 2, "invivo run: unknown option -x\nhint: ", id="usage"),
        pytest.param(
            NotSupportedError("BTF", "5.2"),
            1,
            "invivo run: BTF not supported by this kernel (requires Linux 5.2)\n",
            id="not supported",
        ),
        pytest.param(
            SyscallError("create map x", errno.ENOMEM, "ask for less"),
            1,
            "invivo run: create map x: Cannot allocate memory (errno 12)\nhint: ask for less\n",
            id="system call",
        ),
        pytest.param(
            VerifierError("probe0", errno.EACCES, "R1 invalid mem access", 3),
            70,
            "invivo run: the kernel's verifier refused probe0: R1 invalid mem access\n",
            id="verifier",
        ),
        pytest.param(
            VerifierError("probe0", errno.E2BIG, "BPF program is too large", 3, too_large=True),
            1,
            "invivo run: the kernel's verifier refused probe0: BPF program is too large\n",
            id="too large",
        ),
        pytest.param(OSError(errno.ENOSPC, "No space left on device"), 1, "invivo run: No space left", id="disk full"),
        pytest.param(KeyError("x"), 70, "invivo run: internal error: KeyError: 'x' (", id="bug"),
        pytest.param(
            AssertionError("broken"), 70, "invivo run: internal error: AssertionError: broken (", id="assertion"
        ),
        pytest.param(KeyboardInterrupt(), 130, "", id="interrupted"),
    ],
)
def test_failures(
    problem: BaseException, status: int, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INVIVO_DEBUG", raising=False)
    assert raised(problem) == status
    said = capsys.readouterr().err
    assert said.startswith(text)
    assert "Traceback" not in said


def test_a_bug_shows_where_if_asked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVIVO_DEBUG", "1")
    assert raised(KeyError("x")) == 70
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_the_status_of_a_command_is_handed_on() -> None:
    assert guarded("invivo run", lambda: 7) == 7
