"""The command ``invivo``: finds the subcommand and loads only that."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from invivo.cli.failures import guarded
from invivo.cli.options import UsageError
from invivo.cli.process import run_process

USAGE = """\
invivo asks questions of a running Linux system: programs in the bpftrace language, compiled to eBPF by invivo itself.

usage: invivo COMMAND ...

  run       trace: run a program until it ends, or Ctrl-C
  profile   sample where the time on the processors goes, show it or draw it
  offcpu    add up where threads wait, show it or draw it
  stacks    which stacks lead to an event, show or draw them
  flame     draw flame graphs from files with stacks
  list      list the probes of this machine
  doctor    say what works on this machine, what does not, and why

  invivo COMMAND --help    the options of a command
  invivo --version

examples:
  invivo run -e 't:syscalls:sys_enter_openat { printf("%s %s\\n", comm, str(args.filename)); }' -c 'ls /'
  invivo run -e 't:syscalls:sys_enter_* { @[probe] = count(); }' -c 'find /usr/share/doc -name copyright'
  invivo profile -p 1234 -o slow.svg 10
  invivo list 'tracepoint:sched:*'

`invivo-bpftrace` takes bpftrace's own command line.
"""


def main() -> NoReturn:
    """The command's process: runs its command line, and ends with the exit status."""
    run_process(lambda: run_words(sys.argv[1:]))


def run_words(words: Sequence[str]) -> int:
    """Run a command line, without the name of the command; return the exit status."""
    name = f"invivo {words[0]}" if words and words[0] in _COMMANDS else "invivo"
    return guarded(name, lambda: _dispatch(list(words)))


def _dispatch(words: list[str]) -> int:
    if not words:
        sys.stderr.write(USAGE)
        return 2
    first, *rest = words
    if first in ("-h", "--help", "help"):
        sys.stdout.write(USAGE)
        return 0
    if first in ("-V", "--version", "version"):
        from invivo.version import VERSION

        sys.stdout.write(f"invivo {VERSION}\n")
        return 0
    command = _COMMANDS.get(first)
    if command is None:
        raise _unknown(first)
    return command()(rest)


def _unknown(word: str) -> UsageError:
    from invivo.lang.suggest import nearest

    guess = nearest(word, _COMMANDS)
    hint = f"did you mean invivo {guess}?" if guess else "`invivo --help` lists the commands"
    kind = "option" if word.startswith("-") else "command"
    return UsageError(f"unknown {kind} '{word}'", hint)


def _run() -> Callable[[list[str]], int]:
    from invivo.cli.run import run

    return run


def _list() -> Callable[[list[str]], int]:
    from invivo.cli.list import list_probes

    return list_probes


def _doctor() -> Callable[[list[str]], int]:
    from invivo.cli.doctor import doctor

    return doctor


def _profile() -> Callable[[list[str]], int]:
    from invivo.cli.stacks.profile import profile

    return profile


def _offcpu() -> Callable[[list[str]], int]:
    from invivo.cli.stacks.profile import offcpu

    return offcpu


def _stacks() -> Callable[[list[str]], int]:
    from invivo.cli.stacks.profile import stacks

    return stacks


def _flame() -> Callable[[list[str]], int]:
    from invivo.cli.stacks.flame import flame

    return flame


_COMMANDS: dict[str, Callable[[], Callable[[list[str]], int]]] = {
    "run": _run,
    "profile": _profile,
    "offcpu": _offcpu,
    "stacks": _stacks,
    "flame": _flame,
    "list": _list,
    "doctor": _doctor,
}
