"""What runs in the guests, and what does not: one place for the lists, each entry with its reason.

A guest is an emulated processor, 10 to 20 times as slow as the machine.  A test that compiles and
loads in its own process costs a tenth of a second there; one that starts a command costs the
start of an interpreter, 4 seconds.  So what is told by user space alone stays outside.
"""

from __future__ import annotations

from typing import NamedTuple

_GENERATED = "tests/property/test_language_programs.py::test_programs_do_what_the_reference_interpreter_says"

# All of tests/kernel but what is left out, and the first 15 generated programs.
TARGETS = ("tests/kernel", f"{_GENERATED}[0]")

# Beginnings of the names of tests.
LEFT_OUT = {
    "tests/kernel/test_cli.py": "80 starts of the commands, to see options, messages and streams",
    "tests/kernel/test_killed.py::test_nothing_is_left": "200 starts of the command; what the kernel frees is the same",
    "tests/kernel/test_faults_calls.py::test_functions_timers_and_loops": (
        "150 sessions, for each call that may fail; two other programs' calls are refused there, too"
    ),
    "tests/kernel/test_probes_machine.py::test_the_kernel_is_listed_with_its_types": (
        "sorts the names of all 40,000 functions of a guest's kernel: 2 minutes of user space"
    ),
}

# Tests of tests/kernel that may run nowhere, on the machine and in all guests, and why.
RAN_NOWHERE: dict[str, str] = {}


class Boot(NamedTuple):
    """``name`` is what a test run calls it; ``command_line`` is added to the kernel's."""

    name: str
    release: str
    command_line: str = ""
    targets: tuple[str, ...] = TARGETS


# The distribution's kernels are built with PREEMPT_DYNAMIC and start with preempt=voluntary. With `full` a program
# may be preempted by another task's, which is one more way to meet another program inside of one.
BOOTS = (
    Boot("6.1", "6.1"),
    Boot("6.12", "6.12"),
    Boot("6.12 preempt=full", "6.12", "preempt=full", ("tests/kernel/test_nesting.py",)),
)


def is_left_out(test: str) -> bool:
    return any(test.startswith(beginning) for beginning in LEFT_OUT)
