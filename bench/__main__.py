"""The bench's command line: ``python -m bench run | report | compare | growth | plots | corpus``."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Protocol

from bench import clang, code, compiling, corpus, events, growth, hits, maps, profiles, stacks, startup, traced
from bench.compare import compare
from bench.contenders import Bench, Launcher, Load
from bench.figures import LOST, Figure, Figures, format_table, from_json
from bench.machine import BenchError, build, describe, prepare
from invivo.errors import InvivoError


class Question(Protocol):
    """A module that answers one."""

    TITLE: str

    def measure(self, bench: Bench, /) -> Figures:
        """Return what came out."""
        ...


ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "build" / "bench.json"
GROWTH = ROOT / "build" / "growth.json"
PICTURE = ROOT / "docs" / "images" / "growth.png"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- figures: written by `python -m bench report` -->", "<!-- end of the figures -->"
QUESTIONS: dict[str, Question] = {
    "startup": startup,
    "hits": hits,
    "clang": clang,
    "code": code,
    "compiling": compiling,
    "events": events,
    "maps": maps,
    "traced": traced,
    "stacks": stacks,
    "profiles": profiles,
}


def main() -> int:
    """Run a command; return the exit status: 1 if a contender's result was wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure and print a table; needs root")
    run.add_argument("questions", nargs="*", metavar="QUESTION", help=f"of {', '.join(QUESTIONS)}; all without one")
    run.add_argument("--runs", type=int, default=11, help="of each contender (%(default)s)")
    run.add_argument("--slow-runs", type=int, default=2, help="where bpftrace takes half a minute (%(default)s)")
    run.add_argument("--calls", type=int, default=512 * 1024, help="traced calls in a run (%(default)s)")
    run.add_argument("-o", "--output", type=Path, default=RESULTS, help="the results as JSON (build/bench.json)")
    report = commands.add_parser("report", help="write the table of a run into docs/performance.md")
    report.add_argument("results", nargs="?", type=Path, default=RESULTS)
    both = commands.add_parser("compare", help="say what got better or worse between two runs")
    both.add_argument("old", type=Path)
    both.add_argument("new", type=Path, nargs="?", default=RESULTS)
    growing = commands.add_parser("growth", help="measure how costs grow, into build/growth.json; needs root")
    growing.add_argument("--runs", type=int, default=3, help="of each contender (%(default)s)")
    commands.add_parser("plots", help="draw build/growth.json into docs/images/growth.png; needs matplotlib")
    lengths = commands.add_parser("corpus", help="count the instructions of the programs in bench/corpus")
    lengths.add_argument("--check", action="store_true", help="compare with the kept counts, write nothing")
    arguments = parser.parse_args()
    try:
        match arguments.command:
            case "run":
                unknown = set(arguments.questions) - set(QUESTIONS)
                if unknown:
                    parser.error(f"no such question: {', '.join(sorted(unknown))}")
                return measure(arguments)
            case "report":
                return write_report(arguments.results)
            case "compare":
                _, old = _read(arguments.old)
                _, new = _read(arguments.new)
                sys.stdout.write(f"{compare(old, new)}\n")
                return 0
            case "growth":
                return measure_growth(arguments.runs)
            case "plots":
                from bench.plots import draw  # matplotlib is not among what everybody needs

                draw(GROWTH, PICTURE)
                return 0
            case _:
                return corpus.check() if arguments.check else corpus.record()
    except (BenchError, InvivoError) as problem:
        sys.stderr.write(f"bench: {problem}\n")
        return 1


def measure(arguments: argparse.Namespace) -> int:
    """Answer the questions, write the JSON, print the tables."""
    prepare()
    machine = describe()
    questions: dict[str, list[Figure]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(
            Launcher(build("launch", Path(folder))),
            Load(build("load", Path(folder)), arguments.calls),
            arguments.runs,
            arguments.slow_runs,
            _note,
        )
        for question in arguments.questions or QUESTIONS:
            questions[question] = QUESTIONS[question].measure(bench).all()
    results = {
        "machine": machine,
        "calls": arguments.calls,
        "questions": {name: [figure.to_json() for figure in found] for name, found in questions.items()},
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    sys.stdout.write(format_results(machine, questions))
    wrong = [figure for found in questions.values() for figure in found if figure.metric == LOST and any(figure.values)]
    for figure in wrong:
        sys.stderr.write(f"bench: {figure.contender} lost hits of {figure.case}: {figure.values}\n")
    return 1 if wrong else 0


def measure_growth(runs: int) -> int:
    """Measure all series, write the JSON."""
    prepare()
    machine = describe()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        load = Load(build("load", Path(folder)), 0)
        points = growth.measure(Bench(Launcher(build("launch", Path(folder))), load, runs, 0, _note))
    GROWTH.parent.mkdir(parents=True, exist_ok=True)
    GROWTH.write_text(json.dumps({"machine": machine, "points": points}, indent=1) + "\n")
    return 0


def format_results(machine: dict[str, str], questions: dict[str, list[Figure]]) -> str:
    """All tables, with the machine above them."""
    parts = ["Measured on: " + "; ".join(f"{name} {value}" for name, value in machine.items()) + "."]
    parts += [f"### {QUESTIONS[name].TITLE}\n\n{format_table(found)}" for name, found in questions.items()]
    return "\n\n".join(parts) + "\n"


def write_report(results: Path) -> int:
    """Replace the figures in the manual's page by those of a run."""
    machine, questions = _read(results)
    head, _, rest = PAGE.read_text().partition(BEGIN)
    _, found, tail = rest.partition(END)
    if not found:
        raise BenchError(f"{PAGE} has no place for figures ({BEGIN} … {END})")
    PAGE.write_text(f"{head}{BEGIN}\n\n{format_results(machine, questions)}\n{END}{tail}")
    sys.stdout.write(f"{PAGE}: figures of {results}\n")
    return 0


def _read(results: Path) -> tuple[dict[str, str], dict[str, list[Figure]]]:
    """The machine and the figures of a run."""
    if not results.exists():
        raise BenchError(f"no results in {results}: `python -m bench run` makes them")
    read = json.loads(results.read_text())
    return read["machine"], {name: from_json(rows) for name, rows in read["questions"].items()}


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
