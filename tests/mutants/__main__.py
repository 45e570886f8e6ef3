"""`./stint mutants`: makes small changes in a copy of this checkout, one at a time, and runs the test that must notice each."""

import argparse
import datetime
import hashlib
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence

from tests.mutants.catalogue import CHECKOUT, Mutant, load
from tests.mutants.copy_of_checkout import CopyOfCheckout, copy_of_checkout

OUTPUT_LINES = 25


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="./stint mutants", description=__doc__, allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these, or all whose name begins with it and an asterisk")
    parser.add_argument("--sample", type=int, metavar="N", help="N whose tests are quick: others each day, in turn")
    parser.add_argument("--list", action="store_true", help="print the mutants, and run nothing")
    parser.add_argument("--quick", action="store_true", help="do not first check that the tests pass without a change")
    arguments = parser.parse_args(argv)
    mutants = load()
    chosen = select(mutants, arguments.names) if arguments.names else mutants
    if unknown := [name for name in arguments.names if not select(mutants, [name])]:
        parser.error(f"no such mutant: {', '.join(unknown)}; ./stint mutants --list prints all")
    if arguments.sample:
        chosen = sample(chosen, arguments.sample, datetime.datetime.now(datetime.UTC).toordinal())
    if arguments.list:
        for mutant in chosen:
            print(f"{mutant.name:44} {mutant.test or 'equivalent: ' + mutant.equivalent}")
        return 0
    return run([mutant for mutant in chosen if not mutant.equivalent], quick=arguments.quick)


def select(mutants: Sequence[Mutant], names: Sequence[str]) -> list[Mutant]:
    """Those with one of the names; `sync-*` selects all whose names begin with `sync-`."""
    prefixes = tuple(name.removesuffix("*") for name in names if name.endswith("*"))
    return [mutant for mutant in mutants if mutant.name in names or mutant.name.startswith(prefixes)]


def sample(mutants: Sequence[Mutant], count: int, day: int) -> list[Mutant]:
    """`count` mutants whose tests are quick, in an order without meaning. Successive days have successive parts of it."""
    ordered = sorted(
        (mutant for mutant in mutants if mutant.is_quick), key=lambda mutant: hashlib.sha256(mutant.name.encode()).digest()
    )
    return [ordered[(day * count + offset) % len(ordered)] for offset in range(min(count, len(ordered)))]


def run(mutants: Sequence[Mutant], *, quick: bool = False) -> int:
    """Runs them and prints each result. 1 if one survived, or could not be tried."""
    for mutant in mutants:  # before anything is started
        try:
            mutant.applied((CHECKOUT / mutant.file).read_text())
        except ValueError as error:
            print(f"stint: {error}", file=sys.stderr)
            return 1
    start = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped, and the copy is deleted
    with copy_of_checkout() as copy:
        if not quick and not _passes_unchanged(copy, mutants):
            return 1
        results = Counter(_try(copy, mutant, f"{number:3}/{len(mutants)}") for number, mutant in enumerate(mutants, 1))
    counted = ", ".join(f"{count} {outcome}" for outcome, count in sorted(results.items()))
    print(f"{len(mutants)} mutants in {time.monotonic() - start:.0f} s: {counted}")
    return 0 if results["killed"] == len(mutants) else 1


def _passes_unchanged(copy: CopyOfCheckout, mutants: Sequence[Mutant]) -> bool:
    """A test that fails anyway notices nothing."""
    tests = list(dict.fromkeys(mutant.test for mutant in mutants))
    print(f"{len(tests)} tests without a change …", flush=True)
    result = copy.run(tests, slow=any(mutant.is_slow for mutant in mutants))
    if result.outcome != "passed":
        print(_end_of(result.output))
        print("stint: these tests have to pass before a change can make them fail", file=sys.stderr)
    return result.outcome == "passed"


def _try(copy: CopyOfCheckout, mutant: Mutant, number: str) -> str:
    start = time.monotonic()
    with copy.changed(mutant):
        result = copy.run([mutant.test], slow=mutant.is_slow)
    outcome = {"failed": "killed", "passed": "SURVIVED", "broken": "BROKEN"}[result.outcome]
    print(f"{number} {time.monotonic() - start:6.1f} s  {outcome:9} {mutant.name}", flush=True)
    if outcome == "SURVIVED":
        print(f"        {mutant.where} changes {mutant.file}, and {mutant.test} passes: {mutant.why or 'write a test'}")
    if outcome == "BROKEN":
        print(f"        the test did not begin: the change must break a promise, not the start\n{_end_of(result.output)}")
    return outcome


def _end_of(output: str) -> str:
    return "\n".join(f"        {line}" for line in output.strip().splitlines()[-OUTPUT_LINES:])


if __name__ == "__main__":
    sys.exit(main())
