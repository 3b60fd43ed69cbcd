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

# Hands a structure to a function, by pointer.
_STRUCTURES = r"""
#include <stdint.h>
#include <unistd.h>

struct inner { int16_t low; uint16_t high; };
struct sample {
    uint8_t tiny;
    int32_t negative;
    char name[12];
    unsigned flags : 3, level : 9, : 4, signed_bits_pad : 16;
    int shift : 5;
    struct inner pair[3];
    struct sample *next;
    const char *text;
    union { uint32_t whole; uint8_t parts[4]; };
    uint64_t big;
    int *numbers;
};

__attribute__((noinline)) long take(struct sample *sample, long index)
{
    __asm__ volatile("" : : "r"(sample), "r"(index) : "memory");
    return sample->negative * index;
}

int main(void)
{
    static int numbers[4] = {10, -20, 30, -40};
    static char text[] = "pointed to";
    static struct sample second = {.tiny = 9, .negative = -9, .name = "second", .big = 1};
    static struct sample first = {
        .tiny = 200, .negative = -123456, .name = "first", .flags = 5, .level = 300, .shift = -3,
        .pair = {{-1, 1}, {-2, 2}, {-3, 3}}, .whole = 0x04030201, .big = 0xfedcba9876543210,
    };
    first.next = &second;
    first.text = text;
    first.numbers = numbers;
    numbers[0] += second.tiny ? 0 : text[0];
    take(&first, 2);
    return 0;
}
"""

SOURCES = {
    "files": _FILES,
    "hits": _HITS.replace("#include <unistd.h>", "#include <sys/wait.h>\n#include <unistd.h>"),
    "structures": _STRUCTURES,
    "unread": _UNREAD,
}


def build(name: str, folder: Path, *flags: str) -> Path:
    """Compile a workload with frame pointers and return the program's path."""
    source, program = folder / f"{name}.c", folder / name
    source.write_text(SOURCES[name])
    command = ["gcc", "-O1", "-g", "-fno-omit-frame-pointer", "-o", str(program), str(source), *flags]
    subprocess.run(command, check=True, capture_output=True)
    return program
