"""A command traced by BCC: ``bcc_trace.py count|print OUTPUT COMMAND...``, run by the system's own Python.

Calls of the command's process are counted by number, or each is a line ``TID NUMBER``.  Needs Debian's ``bcc`` in
``PYTHONPATH`` and headers of some kernel in ``BCC_KERNEL_SOURCE``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bcc import BPF  # pyright: ignore

_COUNT = """
BPF_HASH(counts, u32, u64);
TRACEPOINT_PROBE(raw_syscalls, sys_enter)
{
    if (bpf_get_current_pid_tgid() >> 32 != PID)
        return 0;
    u32 key = args->id;
    u64 zero = 0, *count = counts.lookup_or_try_init(&key, &zero);
    if (count)
        __sync_fetch_and_add(count, 1);
    return 0;
}
"""
_PRINT = """
struct call { u32 tid; u32 id; };
BPF_PERF_OUTPUT(calls);
TRACEPOINT_PROBE(raw_syscalls, sys_enter)
{
    u64 who = bpf_get_current_pid_tgid();
    if (who >> 32 != PID)
        return 0;
    struct call call = { .tid = who, .id = args->id };
    calls.perf_submit(args, &call, sizeof(call));
    return 0;
}
"""
_BUFFER_PAGES = 2048  # 8 MiB for each processor


def main() -> int:
    manner, output, *command = sys.argv[1:]
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(theirs)
        os.read(ours, 1)
        os.execvp(command[0], command)
    os.close(ours)
    program = BPF(text=(_COUNT if manner == "count" else _PRINT).replace("PID", str(pid)))
    with Path(output).open("w") as out:
        if manner == "count":
            os.close(theirs)  # the command begins
            _, status = os.waitpid(pid, 0)
            out.writelines(f"@[{key.value}]: {value.value}\n" for key, value in program["counts"].items())
            return os.waitstatus_to_exitcode(status)

        def shown(cpu: int, data: int, size: int) -> None:
            call = calls.event(data)
            out.write(f"{call.tid} {call.id}\n")

        def lost(count: int) -> None:
            out.write(f"Lost {count} events\n")

        calls = program["calls"]
        calls.open_perf_buffer(shown, page_cnt=_BUFFER_PAGES, lost_cb=lost)
        os.close(theirs)
        while True:
            program.perf_buffer_poll(timeout=50)
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                program.perf_buffer_poll(timeout=0)
                return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
