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

# Marks places in the form of <sys/sdt.h>: every form of argument that a compiler writes, a semaphore, and one name at
# two places that have their argument elsewhere.
_MARKS = r"""
#include <stdint.h>
#include <unistd.h>

#define NOTE(name, semaphore, arguments) \
    "990: nop\n" \
    ".pushsection .note.stapsdt,\"\",\"note\"\n" \
    ".balign 4\n" \
    ".4byte 992f-991f, 994f-993f, 3\n" \
    "991: .asciz \"stapsdt\"\n" \
    "992: .balign 4\n" \
    "993: .8byte 990b\n" \
    ".8byte _.stapsdt.base\n" \
    ".8byte " semaphore "\n" \
    ".asciz \"marks\"\n" \
    ".asciz \"" name "\"\n" \
    ".asciz \"" arguments "\"\n" \
    "994: .balign 4\n" \
    ".popsection\n" \
    ".ifndef _.stapsdt.base\n" \
    ".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n" \
    ".weak _.stapsdt.base\n" \
    ".hidden _.stapsdt.base\n" \
    "_.stapsdt.base: .space 1\n" \
    ".size _.stapsdt.base, 1\n" \
    ".popsection\n" \
    ".endif\n"

__attribute__((used, section(".probes"))) volatile unsigned short marks_watched_semaphore;
__attribute__((used)) int64_t table[4] = {1000, -2000, 3000, -4000};
static volatile int watched;

static void registers(long number)
{
    long a = number, b = -number;
    int32_t words[4] = {11, -12, 13, -14};
    __asm__ volatile(
        "mov $0x1234567890abcdef, %%rax\n"
        NOTE("registers", "0", "8@%%rax 4@%%eax -4@%%eax 2@%%ax 1@%%al -1@%%ah 8@%%r9 -8@%%r10 1@%%sil")
        : : "S"(a), "d"(b) : "rax", "memory");
    __asm__ volatile(
        "mov %0, %%rcx\n mov $2, %%rdx\n"
        NOTE("memory", "0", "-4@4(%%rcx) 4@4(%%rcx) -4@(%%rcx,%%rdx,4) -4@4(%%rcx,%%rdx,4) "
            "-8@table+8(%%rip) -8@table(%%rip)")
        : : "r"(words) : "rcx", "rdx", "memory");
    __asm__ volatile(NOTE("constants", "0", "-4@$-5 4@$7 8@$0x10 8f@%%xmm0") : :);
}

static void one(long number) { __asm__ volatile(NOTE("twice", "0", "-8@%%rdi") : : "D"(number)); }
static void other(long number) { __asm__ volatile(NOTE("twice", "0", "-8@%%rsi") : : "S"(number), "D"(0L)); }

int main(void)
{
    registers(77);
    one(21);
    other(-42);
    if (marks_watched_semaphore)
        watched = 1;
    __asm__ volatile(NOTE("watched", "marks_watched_semaphore", "4@%%edi") : : "D"((int)marks_watched_semaphore));
    return watched ? 3 : 0;
}
"""

# Shows the address of a variable, waits for a byte, then writes the variable three times in each of two threads.
_WATCHED = r"""
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static volatile long value;

static void *work(void *unused)
{
    for (int i = 0; i < 3; i++)
        value = i;
    return unused;
}

int main(void)
{
    char byte;
    pthread_t thread;
    printf("%p\n", (void *)&value);
    fflush(stdout);
    if (read(0, &byte, 1) < 0)
        return 1;
    work(0);
    pthread_create(&thread, 0, work, 0);
    pthread_join(thread, 0);
    return value != 2;
}
"""

SOURCES = {
    "files": _FILES,
    "hits": _HITS.replace("#include <unistd.h>", "#include <sys/wait.h>\n#include <unistd.h>"),
    "marks": _MARKS,
    "structures": _STRUCTURES,
    "unread": _UNREAD,
    "watched": _WATCHED,
}


def build(name: str, folder: Path, *flags: str) -> Path:
    """Compile a workload with frame pointers and return the program's path."""
    source, program = folder / f"{name}.c", folder / name
    source.write_text(SOURCES[name])
    command = ["gcc", "-O1", "-g", "-fno-omit-frame-pointer", "-o", str(program), str(source), *flags]
    subprocess.run(command, check=True, capture_output=True)
    return program
