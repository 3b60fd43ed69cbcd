"""C++ programs that tests trace, and C programs stripped of their symbols; built when they are needed."""

from __future__ import annotations

import subprocess
from pathlib import Path

_SHAPES = r"""
#include <unistd.h>
namespace ns {
struct point { int x; long y; };
enum color : unsigned char { red, green = 7, blue };
struct C {
    int base;
    unsigned a : 3, b : 9;
    int shift : 5;
    bool on;
    point at;
    point points[3];
    C *next;
    const char *name;
    char label[8];
    color hue;
    double ratio;
    union { unsigned whole; unsigned char parts[4]; };
    int grid[2][3];
    C(int first);
    __attribute__((noipa)) int method(int k) const { return base + k; }
};
__attribute__((noipa)) C::C(int first)
    : base(first), a(5), b(300), shift(-3), on(true), at{1, 2}, points{{1, 2}, {3, 4}, {-5, 6}}, next(this),
      name("hello"), label("tag"), hue(green), ratio(1.5), whole(0x04030201), grid{{1, 2, 3}, {4, 5, 6}} {}
__attribute__((noipa)) int f(int number) { return number + 1; }
__attribute__((noipa)) int f(double d, int number, float q, const char *text, C &c, bool yes, color hue, short low,
                                unsigned char tiny, long on_stack, int also)
{
    return (int)d + number + c.base + (int)q + yes + hue + low + tiny + on_stack + text[0] + also;
}
template <class T> __attribute__((noipa)) T twice(T v) { return v + v; }
struct big { long v[5]; };
struct mixed { double d; int i; };
__attribute__((noipa)) big make(int number, point p, big b, mixed m, int last)
{
    b.v[0] = number + p.x + m.i + last;
    return b;
}
__attribute__((noipa)) point operator+(point l, point r) { return {l.x + r.x, l.y + r.y}; }
}
extern "C" __attribute__((noipa)) long wide(__int128 w, int after, long double l, int later)
{
    return (long)w + after + (long)l + later;
}
int main(int argc, char **)
{
    ns::C c(40);
    volatile long t = ns::f(argc) + ns::f(2.5, 7, 1.25f, "text", c, true, ns::green, -3, 200, 1234567890123L, -9);
    t += ns::twice<int>(4) + (int)ns::twice<double>(2) + c.method(3);
    ns::point p{11, 22};
    ns::big b{{1, 2, 3, 4, 5}};
    b = ns::make(9, p + p, b, ns::mixed{2.5, 8}, 77);
    t += wide(5, 6, 7.5L, 8) + b.v[0];
    usleep(20000); /* its mappings are read while it lives */
    return 0;
}
"""

_PLAIN = r"""
#include <unistd.h>
struct node { int value; struct node *next; };
static __attribute__((noipa)) int hidden(struct node *n, int times) { return n->value * times; }
int main(int argc, char **argv)
{
    struct node last = {argc, 0}, first = {20, &last};
    volatile int sum = 0;
    for (struct node *n = &first; n; n = n->next)
        sum += hidden(n, 3);
    usleep(20000);
    return 0;
}
"""

_SOURCES = {"shapes.cc": _SHAPES, "plain.c": _PLAIN}


def build_program(source: str, folder: Path, *flags: str, name: str = "") -> Path:
    """Compile ``shapes.cc`` or ``plain.c`` with debug information and return the program's path."""
    text = folder / source
    text.write_text(_SOURCES[source])
    program = folder / (name or text.stem)
    compiler = "g++" if source.endswith(".cc") else "gcc"
    subprocess.run([compiler, "-g", "-o", str(program), str(text), *flags], check=True, capture_output=True)
    return program


def strip_into(program: Path, debug: Path, *, link: bool) -> None:
    """Move a program's symbols and debug information into a file; ``link``: and say so in .gnu_debuglink."""
    debug.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["objcopy", "--only-keep-debug", str(program), str(debug)], check=True)
    subprocess.run(["strip", "--strip-all", str(program)], check=True)
    if link:
        subprocess.run(["objcopy", f"--add-gnu-debuglink={debug}", str(program)], check=True)


def build_id_path(program: Path, directory: Path) -> Path:
    """Return where below a directory the debug information of a program belongs by its build id."""
    notes = subprocess.run(["readelf", "-n", str(program)], check=True, capture_output=True, text=True).stdout
    build_id = next(line.split()[-1] for line in notes.splitlines() if "Build ID" in line)
    return directory / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"
