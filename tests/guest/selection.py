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

_CASES = "tests/kernel/test_language.py::test_language"

# Beginnings of the names of tests.
LEFT_OUT = {
    f"{_CASES}[lexical": "what the parser makes of a text",
    f"{_CASES}[grammar": "what the parser makes of a text",
    f"{_CASES}[comptime": "what is decided before there is a program",
    f"{_CASES}[macros": "what is expanded before there is a program",
    f"{_CASES}[old_spellings": "what the parser makes of a text",
    f"{_CASES}[declarations": "what the compiler makes of a text",
    f"{_CASES}[map_messages": "what the compiler and the tracer's process say of maps",
    "tests/kernel/test_bpftrace_words.py": "command lines, settings and listings, to see what comes of them",
    "tests/kernel/test_cli_bpftrace.py": "35 starts of the command, to see options, messages and streams",
    "tests/kernel/test_map_json.py": "how maps are written",
    "tests/kernel/test_real_profiles.py": "programs whose samples are too few on an emulated processor",
    "tests/kernel/test_readme.py": "starts of the commands, to see that they print what the text shows",
    "tests/kernel/test_user_structures.py": "debug information read in user space",
    "tests/kernel/test_differences.py": "starts of the commands, to see what both make of a program",
    "tests/kernel/test_faults_output.py": "what happens to outputs; the kernel has no part in it",
    "tests/kernel/test_nesting.py::test_the_check_sees_programs_that_share_their_memory": "a test of a test",
    "tests/kernel/test_parquet.py": "how tables are written; guests have no pyarrow",
    "tests/kernel/test_published.py": "what the compiler makes of published scripts",
    "tests/kernel/test_script_options.py": "starts of the commands, to see what they make of options",
    "tests/kernel/test_trials.py": "what is shown of programs that no event runs",
    "tests/kernel/test_uprobe_args.py": "debug information read in user space; a dozen compilations, of 5 seconds each",
    "tests/kernel/test_uprobe_places.py": "symbols and instructions read in user space; a dozen compilations",
    "tests/kernel/test_task_events.py": "a guest maps files through an overlay, under other numbers",
    "tests/kernel/test_profile.py": "measures shares of time of compiled programs; an emulated processor has others",
    "tests/kernel/test_profile_scopes.py": (
        "2 minutes of recordings, by starts of the commands; the programs of profiles are loaded elsewhere, groups "
        "are seen by other programs"
    ),
    "tests/kernel/test_demo.py": "starts of the commands; each question's program is an example or a case",
    **{
        f"tests/kernel/test_unwinding.py::test_callers[{name}]": "what tables say is read in user space"
        for name in (
            *(f"deep-{kind}" for kind in ("static-pie", "static", "large", "with-frame-pointers", "not-described")),
            *("aligned", "virtual", "loading", "signal", "never-returning"),
        )
    },
    **{
        f"tests/kernel/test_unwinding.py::test_{name}": "the same program; what differs is read in user space"
        for name in ("a_thread_ends_where_it_began", "limits", "a_running_process")
    },
    "tests/kernel/test_manual_examples.py::test_example[dw_ustack]": "9 seconds; test_unwinding has its program",
    "tests/kernel/test_runtime_running.py::test_an_interrupt_ends_a_session_cleanly": "signals to the tracer's process",
    "tests/kernel/test_unwinding.py::test_share_of_whole_stacks": (
        "programs of half a second; an emulated processor takes longer to read their tables"
    ),
    "tests/kernel/test_python_frames.py": "processes of an interpreter; the example of pystack walks through one",
    "tests/kernel/test_python_profile.py": "measures shares of time, by starts of the commands",
    "tests/kernel/test_cli.py": "80 starts of the commands, to see options, messages and streams",
    "tests/kernel/test_killed.py::test_nothing_is_left": "100 starts of the command; what the kernel frees is the same",
    "tests/kernel/test_real_programs.py::test_postgresql": "making a database takes minutes there",
    "tests/kernel/test_real_programs.py::test_debug_information": "debug information read in user space",
    "tests/kernel/test_steady.py": "what a process needs in the long run; a guest's clock would be short",
    "tests/kernel/test_faults_calls.py": "300 sessions, for each call that may fail: no kernel answers a refused call",
    "tests/kernel/test_kernel_facts.py::test_the_lazy_answers_are_those_of_a_full_reading": "read in user space",
    "tests/kernel/test_probes_machine.py::test_what_can_be_probed_in_a_process_is_listed": "symbols read in user space",
    "tests/kernel/test_pid_namespaces.py": "starts of the command; the kernel is asked of namespaces elsewhere",
    "tests/kernel/test_probes_machine.py::test_fifty_thousand_functions": "a list that is sorted in user space",
    "tests/kernel/test_run_time.py::test_a_signal_that_no_probe_waits_for": "a signal to the command",
    "tests/kernel/test_run_time.py::test_an_interrupt": "starts of the command, for signals to it",
    "tests/kernel/test_run_time.py::test_the_command_gets_a_sigterm": "a start of the command, for a signal to another",
    "tests/kernel/test_probes_machine.py::test_the_kernel_is_listed_with_its_types": (
        "sorts the names of all 40,000 functions of a guest's kernel: 2 minutes of user space"
    ),
}

# Beginnings of the names of tests that run all the same: those that prove a row of the matrix on each kernel.
KEPT = (
    "tests/kernel/test_bpftrace_words.py::test_bpftrace[probes",
    "tests/kernel/test_profile_scopes.py::test_the_whole_system",
    "tests/kernel/test_python_frames.py::test_the_programs_of_profiles_load",
    "tests/kernel/test_trials.py::test_tests",
    "tests/kernel/test_trials.py::test_benchmarks",
    "tests/kernel/test_uprobe_args.py::test_numbers_in_registers_and_on_the_stack[-O2]",
    "tests/kernel/test_uprobe_places.py::test_a_process_in_another_mount_namespace",
)

# Tests of tests/kernel that may run nowhere, on the machine and in all guests, and why.
RAN_NOWHERE: dict[str, str] = {
    "tests/kernel/test_python_profile.py::test_trampolines": "Debian 12 has no CPython 3.12",
    "tests/kernel/test_manual_examples.py::test_example[override]": (
        "Debian's kernels are built without CONFIG_FUNCTION_ERROR_INJECTION"
    ),
}


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


def files_left_out() -> list[str]:
    """Return the files of which nothing runs: importing them takes a guest seconds."""
    return [name for name in LEFT_OUT if name.endswith(".py") and not any(kept.startswith(name) for kept in KEPT)]


def is_left_out(test: str) -> bool:
    return test.startswith(tuple(LEFT_OUT)) and not test.startswith(KEPT)
