"""Others are told when the probes are attached, and that the trace ends: by the service manager's protocol."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from invivo.cli import bpftrace, main


@pytest.mark.parametrize("abstract", [False, True])
@pytest.mark.parametrize("run", [bpftrace.run_words, lambda words: main.run_words(["run", *words])])
def test_the_service_manager_is_told(
    run: object, abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(run)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(10)
        name = f"@invivo-{tmp_path.name}-{id(manager)}" if abstract else str(tmp_path / "socket")
        manager.bind(name.replace("@", "\0", 1) if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        assert run(["-q", "-e", "BEGIN { exit(); }"]) == 0
        assert manager.recv(256).startswith(b"READY=1\n")
        assert manager.recv(256).startswith(b"STOPPING=1\n")


@pytest.mark.parametrize("name", ["/nonexistent/socket", "nonsense", ""])
def test_a_manager_that_is_not_there(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    assert bpftrace.run_words(["-q", "-e", "BEGIN { exit(); }"]) == 0
    assert capfd.readouterr().err == ""
