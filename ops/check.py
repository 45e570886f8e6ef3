"""`./stint check`: everything about the code that can be checked without a server, in under half a minute."""

import argparse
import bisect
import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from ops.state import CHECKOUT

_WORDS = CHECKOUT / "ops" / "words.txt"
# What people read; not CHANGELOG.md and docs/decisions, which tell of the past.
_READ = [
    *(f"{folder}/**/*.py" for folder in ("api", "actors", "ops", "schemas", "tests")),
    "schemas/**/*.sql",
    "docs/*.md",
    "*.md",
]
_UNREAD = {"CHANGELOG.md"}
# Tests of the code itself and its documents: imports, names, sizes, links, migrations' SQL, mutants, the OpenAPI document.
_TESTS_OF_THE_CODE = (
    *("tests/test_*.py", "tests/mutants/test_catalogue.py", "tests/postgres/test_migration_files.py"),
    "tests/api/test_openapi*.py",
)


@dataclass(frozen=True)
class Step:
    """One check: `run` returns what is wrong, nothing when all is well."""

    name: str
    run: Callable[[], str]
    remedy: str


class Skipped(Exception):
    """A check that cannot run here; the text says why."""


@dataclass
class Word:
    """A word that is not used any more, where it may stand all the same, and why."""

    pattern: str
    instead: str
    exceptions: list[str] = field(default_factory=list)  # patterns of paths

    def is_allowed(self, path: str) -> bool:
        return any(fnmatch.fnmatch(path, exception) for exception in self.exceptions)


def run(args: argparse.Namespace) -> int:
    """Runs all checks; 1 when one of them found something."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # half a minute of the tests would be compiling them
    steps = [
        Step("lint", lambda: python("ruff", "check", "."), "`.venv/bin/ruff check --fix .` corrects some of it"),
        Step("format", lambda: python("ruff", "format", "--check", "."), "`.venv/bin/ruff format .` corrects it"),
        Step("types", lambda: python("mypy"), "mypy names the lines; pyproject.toml has its settings"),
        Step(
            "import ladder, docs",
            lambda: python("pytest", "-q", "-n", "2", "-m", "unit", "--no-header", *tests_of_the_code()),
            "`./stint test -m unit -k NAME` runs one of them again",
        ),
        Step("OpenAPI, by Redocly's ruleset", redocly, "`redocly lint --extends recommended` shows each place"),
        Step("words", lambda: "\n".join(old_words()), "write the new word; ops/words.txt has the list and its exceptions"),
        Step("lock", lambda: "\n".join(hosts_in_lock()), "compile it again without annotations and header"),
    ]
    return run_steps(steps)


def run_steps(steps: list[Step]) -> int:
    """Runs the steps at the same time and prints each result as it comes; 1 when one of them found something."""
    start = time.monotonic()
    with ThreadPoolExecutor(len(steps)) as pool:
        results = list(pool.map(_timed, steps))
    wrong = [step.name for step, ok in zip(steps, results, strict=True) if not ok]
    print(f"{time.monotonic() - start:5.1f} s  {'all is well' if not wrong else 'wrong: ' + ', '.join(wrong)}")
    return 1 if wrong else 0


def _timed(step: Step) -> bool:
    start = time.monotonic()
    try:
        found = step.run()
        result = "FAILED" if found else "ok"
    except Skipped as reason:
        found, result = "", f"skipped: {reason}"
    seconds = time.monotonic() - start
    lines = [f"{seconds:5.1f} s  {step.name}: {result}"]
    if found:
        lines += [f"         {line}" for line in found.strip().splitlines()]
        lines += [f"         → {step.remedy}"]
    print("\n".join(lines), flush=True)
    return not found


def python(*module: str) -> str:
    """The output of `python -m MODULE …` when it fails."""
    result = subprocess.run(  # noqa: S603 - tools of this checkout
        [sys.executable, "-P", "-m", *module], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    return (result.stdout + result.stderr or f"{module[0]} ended with {result.returncode}") if result.returncode else ""


def tests_of_the_code() -> list[str]:
    """Their files; those of them that need a server are not among the unit tests."""
    return sorted(str(path.relative_to(CHECKOUT)) for pattern in _TESTS_OF_THE_CODE for path in CHECKOUT.glob(pattern))


def redocly() -> str:
    """What Redocly's recommended ruleset finds in the OpenAPI document. It needs Node. Raises Skipped without it: then only
    tests/api/test_openapi_rules.py checks the document, with the rules of Spectral that apply."""
    tool = shutil.which("redocly")
    if tool is None:
        raise Skipped("redocly is not installed (npm install --global @redocly/cli)")
    with tempfile.TemporaryDirectory() as directory:
        page = Path(directory) / "openapi.json"
        printed = subprocess.run(
            [sys.executable, "-P", "-m", "api.documentation"], cwd=CHECKOUT, capture_output=True, text=True, check=False
        )
        if printed.returncode:
            return printed.stderr
        page.write_text(printed.stdout)
        result = subprocess.run(  # noqa: S603
            # the contract itself has /api/tasks/internal-users beside /api/tasks/{id}
            [tool, "lint", "--extends", "recommended", "--skip-rule", "no-ambiguous-paths", "--max-problems", "20", str(page)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"},
        )
    return "" if result.returncode == 0 and "You have" not in result.stderr else result.stdout + result.stderr


def hosts_in_lock() -> Iterator[str]:
    """Lines of the locks that name a host: packages come from the index that the system is set up with."""
    for lock in sorted(CHECKOUT.glob("requirements*.lock")):
        for number, line in enumerate(lock.read_text().splitlines(), 1):
            if "://" in line:
                yield f"{lock.name}:{number}: {line.strip()}"


def old_words(words: Iterable[Word] | None = None, root: Path = CHECKOUT) -> Iterator[str]:
    """Each place where a word of ops/words.txt stands, with the new word."""
    words = list(words if words is not None else parse_words(_WORDS.read_text()))
    if not words:
        return
    any_word = re.compile("|".join(f"(?:{word.pattern})" for word in words), re.IGNORECASE)
    for path in sorted({path for pattern in _READ for path in root.glob(pattern)}):
        name = str(path.relative_to(root))
        if name in _UNREAD:
            continue
        text, starts = _in_one_line(path.read_text())
        places = {(bisect.bisect(starts, found.start()), found[0]) for found in any_word.finditer(text)}
        for number, found in sorted(places):
            word = next(word for word in words if re.fullmatch(word.pattern, found, re.IGNORECASE))
            if not word.is_allowed(name):
                yield f"{name}:{number}: {found} → {word.instead}"


def _in_one_line(text: str) -> tuple[str, list[int]]:
    """The text with a blank for each line break, because a term may be broken over two lines; and where each line begins in it.
    Without indentation and the signs of a comment."""
    lines = [line.strip().removeprefix("--").removeprefix("#").lstrip() + " " for line in text.splitlines()]
    return "".join(lines), list(accumulate(map(len, lines[:-1]), initial=0))


def parse_words(text: str) -> Iterator[Word]:
    """The lines of ops/words.txt: `regex → instead`, and below it, indented, `path: reason` for each exception."""
    word = None
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith(" "):
            path, _, reason = line.strip().partition(": ")
            if word is None or not reason:
                raise ValueError(f"an exception needs a word above it, and a reason: {line}")
            word.exceptions.append(path)
        else:
            if word is not None:
                yield word
            pattern, arrow, instead = line.partition(" → ")
            if not arrow:
                raise ValueError(f"not `regex → instead`: {line}")
            word = Word(pattern.strip(), instead.strip())
    if word is not None:
        yield word
