"""Compares many generated programs with the reference interpreter: ``make fuzz N=10000 [SEED=...]``.

Prints how many programs there were, how many the verifier refused and how many did something else;
each of those is made as small as it can be first. The exit status is 1 if there was any.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from invivo.probes.machine import Machine
from invivo.target import Target
from property.language_generator import generate
from property.language_runs import PARAMETERS, Result, cpu_of_worker, run_program, surroundings
from property.minimise import minimise
from property.reference_calls import Surroundings

_BATCH = 25
_ENOUGH = 20  # findings: more will not be read


class Finding:
    """A seed whose program did not do what it should, and the smallest program like it."""

    def __init__(self, seed: int, result: Result, program: str) -> None:
        self.seed = seed
        self.result = result
        self.program = program


def _alike(first: Result, target: Target, around: Surroundings, program: str) -> bool:
    """Whether a program fails in the same way; what is different may become another difference."""
    result = run_program(program, target, around)
    words = slice(0, 3 if first.kind in ("ill-typed", "crash", "uninterpreted") else 0)
    return result.kind == first.kind and result.message.split()[words] == first.message.split()[words]


def try_batch(seeds: range, worker: int = 0) -> tuple[Counter[str], list[Finding]]:
    """Run the programs of some seeds; what is found is minimised."""
    counts: Counter[str] = Counter()
    findings = []
    cpu_of_worker(worker)
    around = surroundings()
    with Machine() as machine:
        for seed in seeds:
            program = generate(seed)
            result = run_program(program, machine, around)
            counts[result.kind] += 1
            if result.is_finding:
                alike = partial(_alike, result, machine, around)
                findings.append(Finding(seed, result, minimise(program, alike, PARAMETERS)))
    return counts, findings


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(count: int, first: int) -> int:
    started = time.monotonic()
    workers = len(os.sched_getaffinity(0))
    batches = [range(start, min(start + _BATCH, first + count)) for start in range(first, first + count, _BATCH)]
    counts: Counter[str] = Counter()
    found = 0
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        jobs = [pool.submit(try_batch, batch, index) for index, batch in enumerate(batches)]
        for job in jobs:
            some, findings = job.result()
            if found > _ENOUGH:
                say(f"... and so on: stopped after {sum(counts.values())} programs")
                pool.shutdown(cancel_futures=True)
                break
            counts += some
            for finding in findings:
                found += 1
                say(f"\n--- seed {finding.seed}: {finding.result.kind}: {finding.result.message}\n{finding.program}")
    seconds = time.monotonic() - started
    named = ", ".join(
        f"{counts[kind]} {kind}" for kind in ("same", "different", "refused", "ill-typed", "crash", "open")
    )
    say(f"{count} programs from seed {first}: {named}; {seconds:.0f} s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())))
