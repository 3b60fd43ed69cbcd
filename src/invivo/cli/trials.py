"""Shows tests and benchmarks as they run: the forms of bpftrace's --test and --bench."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO

from invivo.events import Event
from invivo.output.outputs import SinkOptions, open_sink
from invivo.output.sink import Dialect
from invivo.runtime.session import Session
from invivo.runtime.trials import BenchOutcome, TestOutcome

_GREEN, _RED, _PLAIN = "\033[32m", "\033[31m", "\033[0m"
_UNITS = (("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000))


def run_tests(session: Session, form: str) -> Iterator[tuple[str, bool]]:
    """Run all tests; yield what is to be shown, and whether everything has passed so far."""
    failed: list[str] = []
    count = 0
    for trial in session.trials():
        count += 1
        if form == "text":
            yield _tagged(_GREEN, "[ RUN      ]", trial.name), not failed
        outcome = trial.test()
        if not outcome.passed:
            failed.append(outcome.name)
        yield (_test_text(outcome) if form == "text" else _test_json(outcome)), not failed
    if form == "text":
        yield _tagged(_GREEN, "[==========]", f"{_tests(count)} ran"), not failed
        yield _tagged(_GREEN, "[  PASSED  ]", _tests(count - len(failed))), not failed
        if failed:
            yield _tagged(_RED, "[  FAILED  ]", f"{_tests(len(failed))}, listed below:"), False
        for name in failed:
            yield _tagged(_RED, "[  FAILED  ]", name), False


def run_benchmarks(session: Session, form: str) -> Iterator[str]:
    """Run all benchmarks; yield what is to be shown."""
    trials = list(session.trials())
    if form == "json":
        for trial in trials:
            yield _bench_json(trial.bench())
        return
    width = max([len("Benchmark"), *(len(trial.name) for trial in trials)]) + 4
    header = f"{'Benchmark':<{width}}{'Time(ns)':>12}{'Iterations':>16}"
    yield f"{header}\n{'-' * len(header)}\n"
    for trial in trials:
        outcome = trial.bench()
        yield f"{outcome.name:<{width}}{outcome.average_ns:>12}{outcome.runs:>16}\n"


def _test_text(outcome: TestOutcome) -> str:
    shown = _output(outcome.events)
    time = f"{outcome.name} ({_duration(outcome.duration_ns)})"
    if outcome.passed:
        return shown + _tagged(_GREEN, "[       OK ]", time)
    return shown + _tagged(_RED, "[  FAILED  ]", time)


def _test_json(outcome: TestOutcome) -> str:
    data = {
        outcome.name: {
            "duration": outcome.duration_ns,
            "passed": outcome.passed,
            "output": _output(outcome.events),
        }
    }
    return json.dumps({"type": "test_result", "data": data}) + "\n"


def _bench_json(outcome: BenchOutcome) -> str:
    data = {outcome.name: {"average": outcome.average_ns, "iters": outcome.runs}}
    return json.dumps({"type": "benchmark_result", "data": data}) + "\n"


def _output(events: tuple[Event, ...]) -> str:
    """What the program has written, errors too."""
    stream = BytesIO()
    sink = open_sink("text", stream, stream, Dialect.BPFTRACE, SinkOptions(quiet=True))
    for event in events:
        sink.event(event)
    sink.flush()
    return stream.getvalue().decode("utf-8", "replace")


def _tagged(colour: str, tag: str, text: str) -> str:
    return f"{colour}{tag}{_PLAIN} {text}\n"


def _tests(count: int) -> str:
    return f"{count} test{'' if count == 1 else 's'}"


def _duration(nanoseconds: int) -> str:
    """In the largest unit of which there is at least one."""
    name, unit = next((pair for pair in reversed(_UNITS) if nanoseconds >= pair[1]), _UNITS[0])
    return f"{nanoseconds // unit} {name}"
