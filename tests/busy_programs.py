"""C programs that spend known times in known functions, and say how long they took."""

from __future__ import annotations

import subprocess
from pathlib import Path

FRAME_POINTERS = ("-O1", "-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer", "-fno-optimize-sibling-calls")

_COMMON = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <sys/file.h>
static double now(int clock) { struct timespec t; clock_gettime(clock, &t); return t.tv_sec + t.tv_nsec / 1e9; }
#define NOINLINE __attribute__((noinline, noclone))
#define CPU CLOCK_THREAD_CPUTIME_ID
#define WALL CLOCK_MONOTONIC
static volatile unsigned long sink;
// A function that calls nothing keeps no frame pointer, whatever gcc is told, and its caller is missed: that is mix().
NOINLINE void spin(void)
{
    for (unsigned long i = 0; i < 20000; i++)
        sink = sink * 6364136223846793005UL + i;
}
NOINLINE void mix(void) { spin(); sink++; }
"""

_SOURCES = {
    # seconds of processor time in heavy() and light()
    "shares": r"""
NOINLINE void heavy(double s) { double end = now(CPU) + s; while (now(CPU) < end) mix(); }
NOINLINE void light(double s) { double end = now(CPU) + s; while (now(CPU) < end) mix(); }
int main(int argc, char **argv) { heavy(atof(argv[1])); light(atof(argv[2])); return argc > 3 ? atoi(argv[3]) : 0; }
""",
    # a process that becomes another program in the middle, a child that does not live long
    "becomes": r"""
NOINLINE void before(void) { double end = now(CPU) + 0.3; while (now(CPU) < end) mix(); }
int main(int argc, char **argv) { before(); execv(argv[1], argv + 1); return 1; }
""",
    "storm": r"""
NOINLINE void brief(void) { double end = now(CPU) + 0.02; while (now(CPU) < end) mix(); }
int main(int argc, char **argv)
{
    for (int i = 0; i < atoi(argv[1]); i++) {
        if (!fork()) { brief(); _exit(0); }
        wait(0);
    }
    return 0;
}
""",
    # waits of several kinds; tells how long each took
    "waits": r"""
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int ends[2];
static double took[4];
// The C library keeps no frame pointers, so a walk along them misses its caller: hence each has an inner function.
NOINLINE void sleep_inside(void) { struct timespec t = {0, 300000000}; nanosleep(&t, 0); sink++; }
NOINLINE void read_inside(void) { char c; if (read(ends[0], &c, 1) != 1) _exit(1); sink++; }
NOINLINE void lock_inside(void) { pthread_mutex_lock(&lock); sink++; pthread_mutex_unlock(&lock); }
NOINLINE void sleeps(void) { sleep_inside(); sink++; }
NOINLINE void reads(void) { read_inside(); sink++; }
NOINLINE void locks(void) { lock_inside(); sink++; }
NOINLINE void *reader(void *p) { double t = now(WALL); reads(); took[1] = now(WALL) - t; return p; }
NOINLINE void *locker(void *p) { double t = now(WALL); locks(); took[2] = now(WALL) - t; return p; }
int main(void)
{
    pthread_t a, b;
    if (pipe(ends)) return 1;
    pthread_mutex_lock(&lock);
    pthread_create(&a, 0, reader, 0);
    pthread_create(&b, 0, locker, 0);
    usleep(250000);
    if (write(ends[1], "x", 1) != 1) return 1;
    usleep(250000);
    pthread_mutex_unlock(&lock);
    pthread_join(a, 0);
    pthread_join(b, 0);
    double t = now(WALL);
    sleeps();
    took[0] = now(WALL) - t;
    printf("sleeps %f\nreads %f\nlocks %f\n", took[0], took[1], took[2]);
    return 0;
}
""",
    # many waits of each kind; tells the time that they took without that on the processor
    "blocks": r"""
static pthread_mutex_t mine = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t both;
static int there[2], file;
static char block[1 << 20];
NOINLINE void sleep_inside(int us) { usleep(us); sink++; }
NOINLINE void pipe_inside(void) { char c; if (read(there[0], &c, 1) != 1) _exit(1); sink++; }
NOINLINE void lock_inside(void) { pthread_mutex_lock(&mine); sink++; pthread_mutex_unlock(&mine); }
NOINLINE void fork_inside(int us) { pid_t child = vfork(); if (!child) { usleep(us); _exit(0); } waitpid(child, 0, 0); }
NOINLINE void sync_inside(void) { if (fsync(file)) _exit(1); sink++; }
NOINLINE void sleeps(int us) { sleep_inside(us); sink++; }
NOINLINE void pipes(int us) { (void)us; pipe_inside(); sink++; }
NOINLINE void locks(int us) { (void)us; lock_inside(); sink++; }
NOINLINE void forks(int us) { fork_inside(us); sink++; }
NOINLINE void syncs(int us) { (void)us; sync_inside(); sink++; }
static double waited(void (*kind)(int), int us)
{
    double wall = now(WALL), cpu = now(CPU);
    kind(us);
    return now(WALL) - wall - (now(CPU) - cpu);
}
static void *other(void *p)
{
    for (int i = 1; i <= 10; i++) {
        usleep(i * 3000);
        if (write(there[1], "x", 1) != 1) _exit(1);
        pthread_mutex_lock(&mine);
        pthread_barrier_wait(&both);
        usleep(i * 3000);
        pthread_mutex_unlock(&mine);
        pthread_barrier_wait(&both);
    }
    return p;
}
int main(int argc, char **argv)
{
    double slept = 0, piped = 0, locked = 0, forked = 0, synced = 0;
    pthread_t thread;
    file = open(argv[argc - 1], O_CREAT | O_TRUNC | O_RDWR, 0600);
    if (file < 0 || pipe(there)) return 1;
    pthread_barrier_init(&both, 0, 2);
    pthread_create(&thread, 0, other, 0);
    for (int i = 1; i <= 10; i++) {
        piped += waited(pipes, 0);
        pthread_barrier_wait(&both);
        locked += waited(locks, 0);
        pthread_barrier_wait(&both);
    }
    for (int i = 1; i <= 10; i++) slept += waited(sleeps, i * 3000);
    for (int i = 1; i <= 10; i++) forked += waited(forks, i * 3000);
    for (int i = 1; i <= 10; i++) {
        memset(block, i, sizeof block);
        for (int k = 0; k < 4; k++) if (write(file, block, sizeof block) != sizeof block) return 1;
        synced += waited(syncs, 0);
    }
    pthread_join(thread, 0);
    printf("sleeps %f\npipes %f\nlocks %f\nforks %f\nsyncs %f\n", slept, piped, locked, forked, synced);
    return 0;
}
""",
    # waits for ever in a known function
    "idle": r"""
NOINLINE void pause_inside(void) { pause(); sink++; }
NOINLINE void rests(void) { pause_inside(); sink++; }
int main(void) { puts("ready"); fflush(stdout); rests(); return 0; }
""",
    # a part of the program that is loaded while it runs, and goes before it ends
    "loads": r"""
#include <dlfcn.h>
int main(int argc, char **argv)
{
    void *library = dlopen(argv[1], RTLD_NOW);
    void (*work)(void) = (void (*)(void))dlsym(library, "plugin_work");
    for (double end = now(CPU) + 0.3; now(CPU) < end;) work();
    return argc > 2 ? 1 : dlclose(library);
}
""",
    "plugin": r"""
NOINLINE void plugin_inside(void) { mix(); sink++; }
void plugin_work(void) { plugin_inside(); sink++; }
""",
    # names as Rust's compilers write them
    "rust_names": r"""
void old(void) __asm__("_ZN5tools7Chopper4chop17h0123456789abcdefE");
void new(void) __asm__("_RNvNtCs1234_7mycrate3foo3bar");
NOINLINE void old(void) { for (double end = now(CPU) + 0.2; now(CPU) < end;) mix(); }
NOINLINE void new(void) { for (double end = now(CPU) + 0.2; now(CPU) < end;) mix(); }
int main(void) { old(); new(); sink++; return 0; }
""",
    # names that were made to hurt what shows them; the second one is a million characters long
    "hostile": r"""
void marked(void) __asm__("\"<script>alert('x')</script>&amp;;]]> CONTROL 7\"");
void endless(void) __asm__(NAME);
NOINLINE void marked(void) { for (double end = now(CPU) + 0.2; now(CPU) < end;) mix(); }
NOINLINE void endless(void) { for (double end = now(CPU) + 0.2; now(CPU) < end;) mix(); }
int main(void) { marked(); endless(); sink++; return 0; }
""".replace("NAME", f'"{"L" * 1_000_000}"'),
    # code made at run time, and a list that names it: push rbp, mov rbp rsp, mov ecx N, dec ecx, jnz, pop rbp, ret
    "makes_code": r"""
#include <sys/mman.h>
int main(int argc, char **argv)
{
    static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0xb9, 0x80, 0x96, 0x98, 0x00, 0xff, 0xc9, 0x75, 0xfc,
                                         0x5d, 0xc3};
    void *place = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(place, code, sizeof code);
    if (mprotect(place, 4096, PROT_READ | PROT_EXEC)) return 1;
    char path[64];
    snprintf(path, sizeof path, "/tmp/perf-%d.map", getpid());
    FILE *map = fopen(path, "w");
    fprintf(map, "%lx %lx LazyCompile:~hot app.js:7\n", (long)place, (long)sizeof code);
    fclose(map);
    for (double end = now(CPU) + 0.4; now(CPU) < end;) ((void (*)(void))place)();
    unlink(path);
    return argc > 5;
}
""",
    # functions within functions
    "inlines": r"""
#define INLINE static inline __attribute__((always_inline))
INLINE void innermost(unsigned long n)
{
    for (unsigned long i = 0; i < n; i++)
        sink = sink * 6364136223846793005UL + i;
}
INLINE void middle(unsigned long n)
{
    innermost(n);
}
NOINLINE void outer(void)
{
    for (double end = now(CPU) + 0.4; now(CPU) < end;)
        middle(20000);
}
int main(void) { outer(); sink++; return 0; }
""",
    # allocations of known sizes
    "allocates": r"""
NOINLINE void allocate(int size) { sink += (unsigned long)malloc(size); }
NOINLINE void small(void) { allocate(100); sink++; }
NOINLINE void large(void) { allocate(5000); sink++; }
int main(void) { for (int i = 0; i < 50; i++) { small(); large(); } return 0; }
""",
}

# Templates and lambdas; sort() and the lambdas are compiled into what calls them.
_CPP = r"""
#include <algorithm>
#include <ctime>
#include <map>
#include <string>
#include <vector>
static volatile unsigned long sink;
static double now() { timespec t; clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); return t.tv_sec + t.tv_nsec / 1e9; }
namespace app {
template <typename T> struct Table {
    std::map<std::string, T> entries;
    [[gnu::noinline]] void fill(int n)
    {
        for (int i = 0; i < n; i++) entries["k" + std::to_string(i * 7919 % n)] = T(i);
    }
};
struct Sorter {
    std::vector<double> values;
    [[gnu::noinline]] void operator()(int n)
    {
        values.resize(n);
        for (int i = 0; i < n; i++) values[i] = i * 7919 % n;
        std::sort(values.begin(), values.end(), [](double a, double b) { return a > b; });
    }
};
template <class F> [[gnu::noinline]] void during(double seconds, F work)
{
    for (double end = now() + seconds; now() < end;) work();
    sink++;
}
}
int main()
{
    app::during(0.2, [] { app::Table<long> table; table.fill(2000); sink += table.entries.size(); });
    app::during(0.6, [] { app::Sorter sorter; sorter(5000); sink += sorter.values.size(); });
    sink++;
}
"""


def build_busy_cpp(folder: Path) -> Path:
    """Compile a C++ program, optimised, with debug information; return its path."""
    source, program = folder / "templates.cc", folder / "templates"
    source.write_text(_CPP)
    flags = ("-O2", "-g", "-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer", "-fno-optimize-sibling-calls")
    subprocess.run(["g++", *flags, "-o", program, source], check=True)
    return program


def build_busy(name: str, folder: Path, *flags: str) -> Path:
    """Compile a program with frame pointers, or with ``flags``; return its path."""
    source = folder / f"{name}.c"
    source.write_text(_COMMON + _SOURCES[name])
    program = folder / name
    subprocess.run(["gcc", *(flags or FRAME_POINTERS), "-o", program, source, "-lpthread", "-ldl"], check=True)
    return program
