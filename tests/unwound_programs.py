"""Programs without frame pointers whose stacks tests walk; each calls ``leaf`` some times, every few milliseconds."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

_COMMON = r"""
#include <unistd.h>
#define KEEP __attribute__((noipa))
#ifndef HITS
#define HITS 2000
#endif
volatile long sink;
KEEP void leaf(void) { __asm__ volatile(""); }
#ifdef BURNS
KEEP void again(void) { for (;;) { leaf(); sink++; } }
#else
KEEP void again(void) { usleep(50000); for (int i = 0; i < HITS; i++) { leaf(); usleep(3000); } }
#endif
"""

_DEEP = r"""
KEEP long down(int depth) { if (!depth) { again(); return 1; } long got = down(depth - 1); return got * 3 + sink; }
int main(int argc, char **argv) { return down(DEPTH) == 1; }
"""

_SIGNAL = r"""
#include <signal.h>
KEEP void handler(int number) { again(); sink++; }
KEEP void interrupted(void) { raise(SIGUSR1); sink++; }
int main(void) { signal(SIGUSR1, handler); interrupted(); sink++; return 0; }
"""

_THREAD = r"""
#include <pthread.h>
KEEP void *worker(void *argument) { again(); sink++; return argument; }
int main(void)
{
    pthread_t thread;
    pthread_create(&thread, 0, worker, 0);
    pthread_join(thread, 0);
    return 0;
}
"""

_ALIGNED = r"""
#include <string.h>
KEEP void use(char *memory) { again(); sink += memory[0]; }
KEEP void aligned(int size)
{
    _Alignas(64) char fixed[256];
    char *grown = __builtin_alloca(size);
    memset(fixed, 0, sizeof fixed);
    grown[0] = 1;
    use(fixed + grown[0]);
    sink += fixed[1] + grown[0];
}
int main(int argc, char **argv) { aligned(argc * 100); sink++; return 0; }
"""

# The calls are the last instructions of their functions, and other functions begin right behind.
_NEVER_RETURNING = r"""
#include <stdlib.h>
__attribute__((noipa, noreturn, aligned(1))) void never(void) { again(); exit(0); }
__attribute__((noipa, noreturn, aligned(1))) void last(void) { sink++; never(); }
__attribute__((noipa, aligned(1))) long behind(void) { return sink; }
__attribute__((noipa, noreturn, aligned(1))) void middle(void) { sink--; last(); }
__attribute__((noipa, aligned(1))) long far_behind(void) { return sink + 1; }
int main(int argc, char **argv) { if (argc) middle(); return behind() + far_behind(); }
"""

_VECTOR = r"""
KEEP void thrower(int number) { again(); if (number > 100) throw number; sink++; }
struct shape { virtual ~shape() {} virtual void visit(int number) = 0; };
struct box : shape {
    KEEP void visit(int number) override { try { thrower(number); } catch (int) { sink++; } sink++; }
};
KEEP void call(shape &each) { each.visit(3); sink++; }
int main() { box one; call(one); return 0; }
"""

_LOADING = r"""
#include <dlfcn.h>
KEEP void back(void) { again(); sink++; }
int main(int argc, char **argv)
{
    void (*plugin)(void (*)(void)) = (void (*)(void (*)(void)))dlsym(dlopen(argv[1], RTLD_NOW), "plugin");
    usleep(50000);
    plugin(back);
    sink++;
    return 0;
}
"""

_PLUGIN = r"""
volatile long sink;
__attribute__((noipa)) void inner(void (*back)(void)) { back(); sink++; }
void plugin(void (*back)(void)) { inner(back); sink++; }
"""

_EXECUTING = r"""
#include <stdio.h>
KEEP void before(char **words) { again(); execv(words[0], words); sink++; }
int main(int argc, char **argv) { before(argv + 1); sink++; return 1; }
"""


class Walked(NamedTuple):
    """A program, how it is built, and the functions that call ``leaf``, innermost first, without main's callers."""

    name: str
    source: str
    flags: tuple[str, ...]
    callers: tuple[str, ...]
    compiler: str = "gcc"
    argument: str = ""  # of the program: a plugin


_MAIN = ("main",)

WALKED: tuple[Walked, ...] = (
    Walked("deep", _DEEP, ("-DDEPTH=118",), ("again", *("down",) * 119, *_MAIN)),
    Walked("deep-static-pie", _DEEP, ("-DDEPTH=9", "-static-pie"), ("again", *("down",) * 10, *_MAIN)),
    Walked("deep-static", _DEEP, ("-DDEPTH=3", "-static"), ("again", *("down",) * 4, *_MAIN)),
    Walked("deep-large", _DEEP, ("-DDEPTH=3", "-mcmodel=large"), ("again", *("down",) * 4, *_MAIN)),
    Walked("deep-with-frame-pointers", _DEEP, ("-DDEPTH=3", "-fno-omit-frame-pointer"), (
        "again", *("down",) * 4, *_MAIN,
    )),
    Walked("deep-not-described", _DEEP, (
        "-DDEPTH=3", "-fno-omit-frame-pointer", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables",
    ), ("down",) * 4 + _MAIN),  # that pushes no frame: what called it cannot be known
    Walked("signal", _SIGNAL, (), ("again", "handler", "?", "?", "raise", "interrupted", *_MAIN)),
    Walked("never-returning", _NEVER_RETURNING, ("-falign-functions=1",), ("again", "never", "last", "middle", *_MAIN)),
    Walked("aligned", _ALIGNED, (), ("again", "use", "aligned", *_MAIN)),
    Walked("virtual", _VECTOR, (), (
        "again()", "thrower(int)", "box::visit(int)", "call(shape&)", *_MAIN,
    ), "g++"),
    Walked("loading", _LOADING, (), ("again", "back", "inner", "plugin", *_MAIN), argument=_PLUGIN),
)  # fmt: skip
THREAD = Walked("thread", _THREAD, ("-pthread",), ("again", "worker", "start_thread"))
EXECUTING = Walked("executing", _EXECUTING, (), ("again", "before", *_MAIN))


def build(program: Walked, folder: Path) -> tuple[str, ...]:
    """Compile a program, and return the command that runs it."""
    path = folder / program.name
    suffix = ".cc" if program.compiler == "g++" else ".c"
    _compile(program.compiler, path, _COMMON + program.source, suffix, program.flags)
    if not program.argument:
        return (str(path),)
    plugin = folder / f"{program.name}.so"
    _compile("gcc", plugin, program.argument, ".c", ("-shared", "-fPIC"))
    return str(path), str(plugin)


def _compile(compiler: str, path: Path, source: str, suffix: str, flags: tuple[str, ...]) -> None:
    text = path.with_suffix(suffix)
    text.write_text(source)
    words = [compiler, "-O2", "-fomit-frame-pointer", "-o", str(path), str(text), *flags]
    subprocess.run(words, check=True, capture_output=True)


# Named like what it is, so that samples are told apart by the names of processes.
_BURNING = {
    "loads": r"""
#include <dlfcn.h>
volatile long sink;
__attribute__((noipa)) void burn(long count) { for (long i = 0; i < count; i++) sink += i; }
int main(int argc, char **argv)
{
    void (*plugin)(void (*)(long)) = (void (*)(void (*)(long)))dlsym(dlopen(argv[1], RTLD_NOW), "plugin");
    plugin(burn);
    sink++;
    return 0;
}
""",
    "storm": r"""
#include <sys/wait.h>
#include <unistd.h>
volatile long sink;
__attribute__((noipa)) void burn(long count) { for (long i = 0; i < count; i++) sink += i; }
__attribute__((noipa)) void brief(void) { burn(4000000); sink++; }
int main(void)
{
    for (int i = 0; i < 25; i++) {
        if (!fork()) { brief(); _exit(0); }
        wait(0);
    }
    return 0;
}
""",
    "executes": r"""
#include <unistd.h>
volatile long sink;
__attribute__((noipa)) void burn(long count) { for (long i = 0; i < count; i++) sink += i; }
__attribute__((noipa)) void before(void) { burn(60000000); sink++; }
int main(int argc, char **argv) { before(); execv(argv[1], argv + 1); return 1; }
""",
    "cpp": r"""
#include <unistd.h>
#include <algorithm>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>
struct step { virtual ~step() {} virtual long go(int number) = 0; };
struct table : step {
    std::map<std::string, long> rows;
    long go(int number) override
    {
        for (int i = 0; i < number; i++)
            rows[std::to_string(i % 997)] += (i ^ rows.size()) * 31;
        return rows.size();
    }
};
__attribute__((noipa)) long run(step &each)
{
    long sum = 0;
    for (int i = 0; i < 20; i++)
        try {
            sum += each.go(30000);
            if (i % 3 == 0)
                throw std::runtime_error("again");
        } catch (std::exception &) {
            sum++;
        }
    return sum;
}
int main()
{
    if (getenv("SHORT"))
        return sleep(2);
    std::vector<long> numbers;
    for (long i = 0; i < 500000; i++)
        numbers.push_back(i * 1099511628211L);
    std::sort(numbers.begin(), numbers.end());
    table one;
    return run(one) & 1;
}
""",
    "signals": r"""
#include <signal.h>
#include <sys/time.h>
volatile long sink; volatile int alarms;
__attribute__((noipa)) void burn(long count) { for (long i = 0; i < count; i++) sink += i; }
void handler(int number) { alarms++; burn(2000000); sink++; }
__attribute__((noipa)) void work(void) { while (alarms < 30) burn(1000); }
int main(void)
{
    struct itimerval often = {{0, 10000}, {0, 10000}};
    signal(SIGALRM, handler);
    setitimer(ITIMER_REAL, &often, 0);
    work();
    return 0;
}
""",
    "threads": r"""
#include <pthread.h>
volatile long sink;
__attribute__((noipa)) void burn(long count) { for (long i = 0; i < count; i++) sink += i; }
static void *worker(void *argument) { for (int i = 0; i < 20; i++) burn(2000000); return argument; }
int main(void)
{
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], 0, worker, 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], 0);
    return 0;
}
""",
}


_BURNING_PLUGIN = r"""
volatile long sink;
__attribute__((noipa)) void inner(void (*burn)(long)) { for (int i = 0; i < 40; i++) burn(2000000); sink++; }
void plugin(void (*burn)(long)) { inner(burn); sink++; }
"""


def build_burning(folder: Path) -> dict[str, Path]:
    """Compile the programs that use the processor for some tenths of a second each, and ``plugin.so``."""
    _compile("gcc", folder / "plugin.so", _BURNING_PLUGIN, ".c", ("-shared", "-fPIC"))
    built: dict[str, Path] = {}
    for name, source in _BURNING.items():
        suffix, compiler = (".cc", "g++") if name == "cpp" else (".c", "gcc")
        built[name] = folder / name
        _compile(compiler, built[name], source, suffix, ("-pthread",))
    return built


def make_root(folder: Path, program: Path) -> Path:
    """Make a root directory with a program and its libraries, and return the program's path in it."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for path in re.findall(r"(/\S+) \(", listed):
        (folder / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path[1:])
    shutil.copy(program, folder / "rooted")
    return Path("/rooted")


# What runs in one session: shells, a storm of short programs, one program that executes another, one in another root.
# The large ones run once before, so that their files have been seen.
SCRIPT = """
for each in {seen}; do SHORT=1 $each & done
wait
f() { local i sum=0; for ((i = 0; i < 60000; i++)); do sum=$((sum + i * 3)); done; }
g() { f; f; }
g
{programs}
for i in 1 2 3 4 5 6 7 8; do /bin/true; done
(f; exec {last})
"""

PYTHON = """
import json, os, time
if os.environ.get("SHORT"):
    time.sleep(2)
    raise SystemExit
class Shape:
    def area(self, size): return sum(number * size for number in range(200))
for turn in range(5000):
    json.loads(json.dumps([Shape().area(turn), {"turn": turn}] * 5))
"""
