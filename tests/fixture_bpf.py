"""IR text → loaded programs: what the tests of the back end share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from invivo import bpf, passes
from invivo.bpf.helpers import NAMES, NUMBERS
from invivo.image import Image
from invivo.ir.layout import Layout
from invivo.ir.program import Program as IrProgram
from invivo.ir.text import parse_program
from invivo.ir.verify import verify_program
from invivo.kernel.maps import Map
from invivo.kernel.programs import Program, load_btf, load_program
from invivo.record import Record
from invivo.target import Context, Plan, ProgramType

HELPER_NAMES = dict(enumerate(NAMES))
LAYOUT = Layout((), (), 0, (), (), ())
PLAN = Plan((), Context("rawtracepoint", ProgramType.RAW_TRACEPOINT, 0, False, frozenset()), Record(), cookies=False)


def parse(text: str) -> IrProgram:
    """Parse IR text; helpers by name; every entry is a raw tracepoint program."""
    program = parse_program(text, PLAN, LAYOUT, NUMBERS)
    verify_program(program)
    return program


class Loaded:
    """The programs and maps of an image, in the kernel."""

    def __init__(self, image: Image) -> None:
        self.maps = {spec.name: Map.create(spec) for spec in image.maps}
        self.btf_fd = load_btf(image.btf) if image.btf else -1
        self.programs: dict[str, Program] = {}
        try:
            for program in image.programs:
                self.programs[program.name] = load_program(program, self.maps, self.btf_fd, image.license)
        except BaseException:
            self.close()
            raise

    def run(self, name: str = "main", *arguments: int) -> int:
        """Run a program with arguments of a raw tracepoint; return its 32-bit result."""
        mask = (1 << 64) - 1
        context = b"".join((a & mask).to_bytes(8, "little") for a in arguments)
        return self.programs[name].run(context)

    def close(self) -> None:
        import os

        for program in self.programs.values():
            program.close()
        for each in self.maps.values():
            each.close()
        if self.btf_fd >= 0:
            os.close(self.btf_fd)
            self.btf_fd = -1


@contextmanager
def loaded(text: str, *, optimise: bool = True) -> Iterator[Loaded]:
    """Compile IR text and load it, for the length of a with statement."""
    program = parse(text)
    if optimise:
        program = passes.run(program)
    programs = Loaded(bpf.generate(program))
    try:
        yield programs
    finally:
        programs.close()
