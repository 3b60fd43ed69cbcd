"""Programs that tests trace: built from C when they are needed, removed with the test's folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

_HITS = r"""
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Called with its own number and a string that is made of it. */
__attribute__((noinline)) void hit(long number, long twice, const char *text)
{
    __asm__ volatile("" : : "r"(number), "r"(twice), "r"(text) : "memory");
}

static void work(long count, int cpu)
{
    static char text[200];
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
    for (long i = 0; i < count; i++) {
        int n = snprintf(text, sizeof text, "%ld:", i);
        for (int j = 0; j < (int)(i % 97); j++)
            text[n + j] = 'a' + i % 26;
        text[n + i % 97] = 0;
        hit(i, 2 * i + 1, text);
        syscall(SYS_lseek, -1, i, 4711);
    }
}

/* hits COUNT CPUS: COUNT hits and COUNT lseek calls on each of the first CPUS processors. */
int main(int argc, char **argv)
{
    long count = atol(argv[1]);
    int cpus = atoi(argv[2]);
    for (int cpu = 1; cpu < cpus; cpu++)
        if (fork() == 0) {
            work(count, cpu);
            _exit(0);
        }
    work(count, 0);
    for (int cpu = 1; cpu < cpus; cpu++)
        wait(0);
    return 0;
}
"""

_FILES = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* files FOLDER: reads a file as it grows, 400, 300 and 300 bytes and then none, into a buffer of 4711;
   makes and removes three folders, and fails to remove FOLDER, which is not empty. */
int main(int argc, char **argv)
{
    static char buffer[4711];
    if (chdir(argv[1]) != 0)
        return 1;
    int file = open("thousand", O_CREAT | O_RDWR, 0600);
    if (file < 0 || ftruncate(file, 400) != 0)
        return 1;
    for (int size = 400; size <= 1000; size += 300) {
        if (ftruncate(file, size) != 0 || read(file, buffer, sizeof buffer) != (size == 400 ? 400 : 300))
            return 1;
    }
    if (read(file, buffer, sizeof buffer) != 0)
        return 1;
    for (int i = 0; i < 3; i++)
        if (mkdir("folder", 0710) != 0 || rmdir("folder") != 0)
            return 1;
    return rmdir(argv[1]) == 0;
}
"""

# chdir with an empty path, with an address that is mapped nowhere, and with a good path.
_UNREAD = r"""
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
    volatile char nothing[8] = "", root[8] = "/"; /* written, so the page is there */
    syscall(SYS_chdir, nothing);
    syscall(SYS_chdir, 4096);
    syscall(SYS_chdir, root);
    return 0;
}
"""

SOURCES = {
    "files": _FILES,
    "hits": _HITS.replace("#include <unistd.h>", "#include <sys/wait.h>\n#include <unistd.h>"),
    "unread": _UNREAD,
}


def build(name: str, folder: Path, *flags: str) -> Path:
    """Compile a workload with frame pointers and return the program's path."""
    source, program = folder / f"{name}.c", folder / name
    source.write_text(SOURCES[name])
    command = ["gcc", "-O1", "-g", "-fno-omit-frame-pointer", "-o", str(program), str(source), *flags]
    subprocess.run(command, check=True, capture_output=True)
    return program
