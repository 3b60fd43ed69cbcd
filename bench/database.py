"""PostgreSQL, started by the bench on a socket of its own, as nobody; pgbench asks it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.machine import BenchError, fetch
from invivo.record import Record

STATEMENTS = 7  # of a transaction of pgbench
_NOBODY = 65534
_AS_NOBODY = (f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups")
_SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{folder}'
fsync = off
synchronous_commit = off
autovacuum = off
log_min_messages = panic
log_min_error_statement = panic
"""
_PACKAGES = ("postgresql-15", "postgresql-client-15", "libpq5", "libllvm14", "libxslt1.1", "libldap-2.5-0")


class Database(Record):
    """A cluster of files. ``server`` runs in the foreground until its client ends it."""

    programs: Path
    folder: Path
    server: list[str]

    def client(self, transactions: int) -> list[str]:
        """A command that waits for the server, asks it, says how fast it was, and lets it end."""
        ready = f"{self.programs}/pg_isready -q -h {self.folder}"
        wait = f"n=0; until {ready}; do n=$((n+1)); [ $n -lt 600 ] || exit 1; sleep 0.05; done"
        ask = f"{self.programs}/pgbench -n -h {self.folder} -U bench -t {transactions} postgres 2>&1"
        end = f"kill -INT $(head -n 1 {self.folder}/data/postmaster.pid)"
        return ["sh", "-c", f"{wait}; {ask}; status=$?; {end}; exit $status"]

    def time_ns(self, said: str, transactions: int) -> float:
        """How long the transactions took, by what pgbench said."""
        found = re.search(r"^tps = ([0-9.]+) \(without", said, re.MULTILINE)
        if found is None or f"processed: {transactions}/{transactions}" not in said:
            raise BenchError(f"pgbench failed: {said.strip()}")
        return transactions / float(found[1]) * 1e9


@contextmanager
def made() -> Iterator[Database]:
    """A new cluster with pgbench's tables; it goes at the end."""
    programs, environment = _programs()
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        os.chown(folder, _NOBODY, _NOBODY)
        setpriv = shutil.which("setpriv") or "setpriv"
        as_nobody = ["env", "LC_ALL=C", *environment, setpriv, *_AS_NOBODY]
        data = folder / "data"
        words = [*as_nobody, f"{programs}/initdb", "-D", str(data), "--no-sync", "-A", "trust", "-U", "bench"]
        _run(words, folder)
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS.format(folder=folder))
        server = [
            "/usr/bin/env",
            "LC_ALL=C",
            *environment,
            setpriv,
            *_AS_NOBODY,
            f"{programs}/postgres",
            "-D",
            str(data),
        ]
        database = Database(programs, folder, server)
        with subprocess.Popen(server, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
            try:
                _fill(database)
            finally:
                running.terminate()
                running.wait(30)
        yield database
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fill(database: Database) -> None:
    ask = [f"{database.programs}/pgbench", "-i", "-q", "-h", str(database.folder), "-U", "bench", "postgres"]
    for _ in range(100):
        if subprocess.run(ask, check=False, capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    raise BenchError("PostgreSQL does not start")


def _programs() -> tuple[Path, list[str]]:
    """The folder of PostgreSQL's programs, and the environment that they need: installed ones, or fetched."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if found:
        return found[-1].parent, []
    root = fetch("postgresql", *_PACKAGES)
    return root / "usr/lib/postgresql/15/bin", [f"LD_LIBRARY_PATH={root}/usr/lib/x86_64-linux-gnu"]


def _run(words: list[str], folder: Path) -> None:
    done = subprocess.run(words, cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(words)}: {done.stderr.strip()}")
