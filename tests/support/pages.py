"""The blocks of the documents. Commands are pasted into a shell as a reader pastes them, and what they print is compared with
the page; so are answers of the API with the JSON that a page shows.
"""

import json
import re
import subprocess
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.state import CHECKOUT
from tests.support.up import Up


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    language: str
    text: str


@dataclass(frozen=True)
class Step:
    """What is pasted at once, and what the page says that it prints; None: the page does not say."""

    commands: str
    shown: str | None


def blocks(page: Path, *languages: str) -> list[Block]:
    """The page's blocks of these languages, or all of them."""
    found = re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [Block(page, kind, textwrap.dedent(text)) for _, kind, text in found if not languages or kind in languages]


def steps(found: Sequence[Block]) -> list[Step]:
    """An `sh` block is pasted as a whole, and prints the `text` block that follows it, if there is one. In a `console` block
    each command has a `$` before it and its output after it."""
    done: list[Step] = []
    for block, after in zip(found, [*found, None][1:], strict=True):
        if block.language == "sh":
            done.append(Step(block.text, after.text if after is not None and after.language == "text" else None))
        elif block.language == "console":
            parts = [part.partition("\n") for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]]
            done += [Step(line, shown) for line, _, shown in parts]
    return done


def paste(pasted: Sequence[Step], up: Up, directory: Path) -> list[str]:
    """The output of each step. All of them run in one shell, in a checkout whose `./stint` and `.stint` belong to `up`; only
    its ports are replaced. Fails at the first command that fails, or that an HTTP server refuses."""
    _link_checkout(directory, up)
    script = "\n".join(f"echo '@@@ {number}'\n{step.commands.strip()}" for number, step in enumerate(pasted))
    # each of the other servers of `up` has one of the ports after it
    script = re.sub(r"127\.0\.0\.1:800(\d)", lambda port: f"127.0.0.1:{up.port + int(port[1])}", script)
    # a page may explain an exit code other than 0
    script = re.sub(r"^(.*?)( +#.*\bexit (\d).*)$", r"\1 || [ $? = \3 ] \2", script, flags=re.MULTILINE)
    script = 'curl() { command curl --fail-with-body "$@"; }\n' + script
    ran = subprocess.run(["bash", "-euc", script], cwd=directory, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, f"{ran.stdout[-2000:]}\n{ran.stderr}"
    return re.split(r"^@@@ \d+\n", ran.stdout, flags=re.MULTILINE)[1:]


def _link_checkout(directory: Path, up: Up) -> None:
    for path in CHECKOUT.iterdir():
        if path.name not in ("stint", ".stint"):
            (directory / path.name).symlink_to(path)
    (directory / ".stint").symlink_to(up.state)
    (directory / "stint").write_text(f'#!/bin/sh\nexec {CHECKOUT}/stint "$@" --state "{up.state}"\n')
    (directory / "stint").chmod(0o755)


def assert_prints(step: Step, output: str) -> None:
    """Compares the output with what the page shows. There … stands for what differs from run to run or is left out; all else
    is as it is shown."""
    if step.shown is not None:
        pattern = as_pattern(step.shown.strip())
        assert re.fullmatch(pattern, output.strip(), re.DOTALL), f"{step.commands}\nprints\n{output}"


def as_pattern(shown: str) -> str:
    """A regular expression for the text, in which … stands for any characters. It needs `re.DOTALL`."""
    return re.escape(shown).replace("…", ".*")


def sample(page: Path, begins: str) -> str:
    """The page's only block that begins with this text. The answers that pages show are such blocks."""
    [text] = [block.text for block in blocks(page) if block.text.startswith(begins)]
    return text


def assert_answers(shown: str, answer: Any) -> None:
    """Compares an answer with the JSON that a page shows. In a text, … stands for any characters. As the name of a field it
    stands for all fields that are left out. Everything else is as it is shown; fields have no order."""
    differences = list(_differences(json.loads(shown), answer, ""))
    assert not differences, "\n".join(differences)


def _differences(shown: Any, answer: Any, path: str) -> Iterator[str]:
    if isinstance(shown, dict) and isinstance(answer, dict):
        names = shown.keys() - {"…"}
        if not names <= answer.keys() or ("…" not in shown and names != answer.keys()):
            yield f"{path}: the page shows the fields {sorted(names)}, the answer has {sorted(answer)}"
        for name in sorted(names & answer.keys()):
            yield from _differences(shown[name], answer[name], f"{path}.{name}")
    elif isinstance(shown, list) and isinstance(answer, list) and len(shown) == len(answer):
        for number, (one, other) in enumerate(zip(shown, answer, strict=True)):
            yield from _differences(one, other, f"{path}[{number}]")
    elif isinstance(shown, str) and isinstance(answer, str):
        if not re.fullmatch(as_pattern(shown), answer, re.DOTALL):
            yield f"{path}: the page shows {shown!r}, the answer has {answer!r}"
    elif (type(shown), shown) != (type(answer), answer):
        yield f"{path}: the page shows {shown!r}, the answer has {answer!r}"
