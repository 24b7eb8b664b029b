"""``python -m tests.sim``: seeds one after another, what they covered, and for a failing one its trace and how to replay it.

python -m tests.sim --seed 7 --steps 800 [--trace]     one world
python -m tests.sim --seeds 0:2000                     a range, on --jobs processes
python -m tests.sim --seeds 0:100000 --resume          skips ranges that .cache/sim/ says are done, and goes on
python -m tests.sim --mutants [NAME ...]               each broken variant must be caught
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path

from tests.sim.mutants import MASKED, MUTANTS
from tests.sim.scenarios import KEPT
from tests.sim.world import Failure, run

STEPS = 1200
CHUNK = 250
ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".cache/sim/finished.jsonl"
# What `make sim` is to have met over all its seeds.
BARS = {
    "seeds": 100_000,
    "elections": 100_000,
    "truncations": 10_000,
    "unknown outcomes": 10_000,
    "commits racing a leader change": 10_000,
}
SOURCES = (
    "tests/sim/*.py",
    "tests/model/tiering_*.py",
    "tierlog/replication/*.py",
    "tierlog/metadata/*.py",
    "tierlog/metadata/control/*.py",
    "tierlog/log/leader_epochs.py",
    "tierlog/log/producers/*.py",
    "tierlog/coordination/*.py",
    "tiering/*.py",
)
# They tell what a seed's story means, or other stories.
NOT_SOURCES = {
    "__main__.py",
    "mutants.py",
    "mutants_of_elections.py",
    "mutants_of_proofs.py",
    "mutants_of_sessions.py",
    "mutants_of_tier.py",
    "mutation.py",
    "scenarios.py",
    "scenarios_of_proofs.py",
    "scenarios_of_sessions.py",
    "story.py",
    "test_aborted_index.py",
    "test_sim.py",
}


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    options = _options()
    if options.mutants is not None:
        return _mutants(options.mutants or list(MUTANTS), options.steps, options.limit)
    if options.seeds is None:
        return _one(options.seed, options.steps, options.trace, options.mutant)
    start, _, end = options.seeds.partition(":")
    return _many(range(int(start), int(end)), options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", metavar="A:B", help="half-open range")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument(
        "--trace", action="store_true", help="print the story of the one seed, also when all is well"
    )
    parser.add_argument("--mutant", choices=list(MUTANTS), help="break one rule")
    parser.add_argument("--mutants", nargs="*", metavar="NAME", help="look for a seed that catches each")
    parser.add_argument("--limit", type=int, default=3000, help="seeds tried per mutant")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), help="begin no further chunk after that"
    )
    parser.add_argument(
        "--resume", action="store_true", help=f"skip what {STATE.name} calls finished, add to it"
    )
    return parser.parse_args()


def _one(seed: int, steps: int, is_tracing: bool, mutant: str | None) -> int:
    with MUTANTS[mutant][0]() if mutant else nullcontext():
        try:
            world = run(seed, steps, is_tracing=True)
        except Failure as failure:
            _tell(failure, steps, mutant)
            return 1
    if is_tracing:
        say("\n".join(world.trace))
    say(_coverage(world.counts))
    return 0


def _tell(failure: Failure, steps: int, mutant: str | None = None) -> None:
    say("\n".join(failure.world.trace))
    say(f"\n{failure}")
    if not str(failure.error):
        traceback.print_exception(failure.error)
    flag = f" --mutant {mutant}" if mutant else ""
    say(f"replay: python -m tests.sim --seed {failure.seed} --steps {steps} --trace{flag}")


def _coverage(counts: Counter[str]) -> str:
    return "\n".join(f"{name:36s} {count:>12,}" for name, count in sorted(counts.items()) if count)


def _bars(seeds: int, counts: Counter[str]) -> str:
    """The coverage that counts, beside what it should be."""
    met = {"seeds": seeds, **counts}
    return "\n".join(
        f"{name:36s} {met.get(name, 0):>12,} of {bar:>8,}  {'reached' if met.get(name, 0) >= bar else 'not yet'}"
        for name, bar in BARS.items()
    )


# -- ranges


def _chunk(start: int, end: int, steps: int) -> tuple[int, int, Counter[str], list[int]]:
    counts: Counter[str] = Counter()
    failed = []
    for seed in range(start, end):
        try:
            counts += run(seed, steps).counts
        except Failure:
            failed.append(seed)
    return start, end, counts, failed


def _fingerprint() -> str:
    """Of what a seed's story depends on: seeds that other code has passed prove nothing about this one."""
    digest = hashlib.sha256()
    for pattern in SOURCES:
        for path in sorted(p for p in ROOT.glob(pattern) if p.name not in NOT_SOURCES):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _finished(steps: int, code: str) -> tuple[set[int], Counter[str]]:
    """Starts of the chunks that this code has done with as many steps, and what they covered."""
    starts: set[int] = set()
    counts: Counter[str] = Counter()
    for line in STATE.read_text().splitlines() if STATE.exists() else []:
        entry = json.loads(line)
        is_same = (entry["steps"], entry.get("code")) == (steps, code)
        if is_same and not entry["failed"] and entry["start"] not in starts:
            starts.add(entry["start"])
            counts += Counter(entry["counts"])
    return starts, counts


def _many(seeds: range, options: argparse.Namespace) -> int:
    code = _fingerprint()
    done, total = _finished(options.steps, code) if options.resume else (set(), Counter())
    starts = [s for s in range(seeds.start, seeds.stop, CHUNK) if s not in done]
    began, failed, count = time.monotonic(), [], 0
    for start, end, counts, bad in _results(starts, seeds.stop, options, began):
        total += counts
        failed += bad
        count += end - start
        if options.resume:
            STATE.parent.mkdir(parents=True, exist_ok=True)
            entry = {
                "code": code,
                "start": start,
                "end": end,
                "steps": options.steps,
                "failed": bad,
                "counts": counts,
            }
            with STATE.open("a") as state:
                state.write(json.dumps(entry) + "\n")
        if bad:
            break
    seconds = time.monotonic() - began
    before = f", {len(done) * CHUNK:,} before" if done else ""
    say(_coverage(total))
    say(_bars(count + len(done) * CHUNK, total))
    say(
        f"{count:,} seeds of {options.steps} steps{before}; {count * options.steps / max(seconds, 1e-9):,.0f} steps/s"
    )
    for seed in failed[:1]:
        _one(seed, options.steps, True, None)
    return 1 if failed else 0


def _results(
    starts: list[int], stop: int, options: argparse.Namespace, began: float
) -> Iterator[tuple[int, int, Counter[str], list[int]]]:
    def is_time() -> bool:
        return time.monotonic() - began < options.seconds

    if options.jobs == 1:
        for start in starts:
            if not is_time():
                return
            yield _chunk(start, min(start + CHUNK, stop), options.steps)
        return
    with ProcessPoolExecutor(options.jobs) as pool:
        for at in range(0, len(starts), options.jobs):
            if not is_time():
                return
            batch = starts[at : at + options.jobs]
            yield from pool.map(
                _chunk, batch, [min(s + CHUNK, stop) for s in batch], [options.steps] * len(batch)
            )


# -- mutants


def _mutants(names: list[str], steps: int, limit: int) -> int:
    survivors = []
    for name in names:
        mutation, known = MUTANTS[name]
        with mutation():
            story = _by_story(name)
            caught = None if story else next(_catching((known, *range(limit)), steps), None)
        if story:
            say(f"{name:36s} {story}")
        elif caught is not None:
            say(f"{name:36s} seed {caught.seed:>6}  {str(caught.error)[:120]}")
        elif name in MASKED:
            say(f"{name:36s} masked: {MASKED[name]}")
        else:
            survivors.append(name)
            say(f"{name:36s} SURVIVES {limit} seeds")
    return 1 if survivors else 0


def _by_story(name: str) -> str:
    """What the directed scenario of the mutant says; "" without one."""
    if name in KEPT:
        try:
            KEPT[name]()
        except AssertionError as error:
            return f"{KEPT[name].__name__}: {str(error)[:110]}"
    return ""


def _catching(seeds: tuple[int, ...], steps: int) -> Iterator[Failure]:
    for seed in seeds:
        try:
            run(seed, steps)
        except Failure as failure:
            yield failure


if __name__ == "__main__":
    sys.exit(main())
