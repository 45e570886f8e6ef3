"""Every regular expression of the product takes time in proportion to its input, whatever the input is.

The expressions are found in the source, so a new one has to be added here: with the method that runs it, and words of which an
adversary would make an input.
"""

import ast
import importlib
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from tests.support.cpu import assert_linear, pumps
from tests.support.installation import CHECKOUT

PACKAGES = ("api", "actors", "schemas", "ops")
METHODS = {"compile", "match", "fullmatch", "search", "sub", "subn", "findall", "finditer", "split"}
# what most expressions care about
WORDS = ("a", "A", "0", " ", "-", "_", ".", "/", "\\", '"', "'", "=", ":", "<", ">", "[", "\t", "a-", "a.", "a ", "é", "aA")
MASKING = (
    *(
        "eyJaaaaaaaa",
        "eyJaaaaaaaa.",
        "-eyJaaaaaaaa",
        "eyJ",
        "bearer ",
        "Basic  ",
        "://",
        "a://",
        "a://b:",
        "a://b:c@",
        "a:",
        "xoxb-",
    ),
    *("-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "-----END PRIVATE KEY-----", "PRIVATE KEY-----", "-----", "xapp-"),
    *("https://hooks.slack.com/", "secret", "secret=", 'secret="', "secret='a", 'secret=\\"', 'secret\\"', "secret:  "),
    *("token_", "password\\\\", "api_key", 'a"secret":', "pwd=b"),
)

# path → expression as the source has it (by its beginning) → the method that runs it
EXPRESSIONS: dict[str, dict[str, str]] = {
    "api/auth/tokens.py": {"'[A-Za-z0-9_-]+": "fullmatch"},
    "api/http/limits/framing.py": {"b'(?:": "fullmatch"},
    "api/http/limits/json_text.py": {"'[\\x00": "search", "b'\"[^": "sub", "b'\\\\\\\\u": "search"},
    "api/slack/events.py": {"'[A-Z0-9]": "fullmatch"},
    "schemas/base.py": {"'[0-9]{4}-": "match"},
    "schemas/identity/current_user.py": {"PATTERN": "fullmatch"},
    "schemas/mail/smtp.py": {"'\\\\s+": "sub"},
    "schemas/mail/templates.py": {"'(?<=[^": "sub", "'\\\\b(": "sub", "':(?=//)": "sub"},
    "schemas/masking.py": {
        "'pass(word": "search", "'((?<![": "sub", "'((?:bearer": "sub", "'((?<=[": "sub", "'()\\\\bx(": "sub",
        "'()\\\\bhttps": "sub",
        "f'()-----BEGIN {_KEY_NAME}(": "sub", "f'()-----BEGIN {_KEY_NAME}[": "sub", 'f"""({_BETWEEN}(?P<quote>': "sub",
        'f"""({_BETWEEN}(?:': "sub", "'(?<!^)": "sub",
    },
    "schemas/messages.py": {"'(?<!^)": "sub"},
    "schemas/names.py": {"f'[{INVISIBLE}": "sub", "f'[{BLANKS}": "sub", "f'^[": "sub"},
    "schemas/postgres/functions.py": {'f"\\\\b({': "sub", "f'\\\\b{name}": "sub"},
    "schemas/postgres/sync_cursor.py": {"'([0-9a-f]": "fullmatch"},
    "schemas/postgres/sync_start.py": {"'[0-9]{1,15}": "fullmatch"},
    "schemas/setting_values.py": {"'https?": "fullmatch", "'([01]": "fullmatch", "'[,;\\\\s]": "split"},
    "schemas/slack/approvals/seen.py": {"'([A-Za-z0-9_-]{22})": "fullmatch"},
    "schemas/slack/client_errors.py": {"'[0-9]{1,9}": "fullmatch"},
    "schemas/slack/client.py": {
        "'[0-9]{1,12}": "fullmatch", "'v0=": "fullmatch", "re.escape(host)": "fullmatch",
    },
    "schemas/slack/reading/mrkdwn.py": {
        "'<([^": "sub", "'\\\\x00(": "sub", "'`(": "split",
        "'(?<![\\\\w*])": "sub", "'(?<!\\\\w)_": "sub", "'(?<![\\\\w~])": "sub",
    },
    "schemas/slack/typed/clock_times.py": {"'(?P<hour>": "fullmatch"},
    "schemas/slack/typed/durations.py": {
        "f'(?P<hours>": "fullmatch", "f'(?P<minutes>": "fullmatch", "'(?P<number>": "fullmatch",
    },
    "schemas/sync/pull.py": {"f'sync": "fullmatch"},
    "schemas/reports/spreadsheets.py": {"'(^|[,": "sub"},
    "schemas/wording.py": {"'(?<=[a-z])": "sub"},
    "ops/bench/generator.py": {"b'\\\\r": "search"},
    "ops/bench/pgbench.py": {"'^tps": "search", "'%\\\\(": "sub", '"\'[^': "sub"},
    "ops/bench/traffic.py": {"'(\\\\d+)": "match", "'^Total": "search"},
    "ops/check.py": {"'|'.join": "", "word.pattern": ""},
    "ops/demo/firm.py": {"'[^a-z0-9]+": "sub"},
    "ops/sandbox/faults.py": {"rule.path": ""},
    "ops/sandbox/xero/projects.py": {"f'{BASE}": "fullmatch"},
    "ops/schema_page.py": {"'^-- ": "search"},
    "ops/up/log_view.py": {"'PANIC": "search", "'\\\\[(crit": "search", "'error'": "search"},
    "ops/up/rabbitmq.py": {'"quorum': "search", "'Recovering": "findall"},
    "ops/up/packages/rabbitmq.py": {"'\\\\{": "findall", "'\\\\d+'": "findall"},
}  # fmt: skip
# written by those who run Stint, for themselves
OWN = {
    ("ops/check.py", "'|'.join"), ("ops/check.py", "word.pattern"), ("ops/sandbox/faults.py", "rule.path"),
    ("schemas/postgres/functions.py", 'f"\\\\b({'), ("schemas/postgres/functions.py", "f'\\\\b{name}"),
}  # fmt: skip
# names in the source that are local to a function
LOCALS = {"host": "https://hooks.slack.com"}


@cache
def calls() -> tuple[tuple[str, ast.Call], ...]:
    """Each call of a function of `re` that takes an expression, with its path. Not for the collection of tests, which each
    process of pytest does: to parse the source takes a second."""
    return tuple(_calls())


def _calls() -> Iterator[tuple[str, ast.Call]]:
    for package in PACKAGES:
        for path in sorted((CHECKOUT / package).rglob("*.py")):
            text = path.read_text()
            if "import re" not in text and "from re import" not in text:
                continue  # to parse everything takes seconds
            for node in ast.walk(ast.parse(text)):
                assert not (isinstance(node, ast.ImportFrom) and node.module == "re"), f"{path}: import re as a module"
                if isinstance(node, ast.Call) and _function_of_re(node) in METHODS:
                    yield path.relative_to(CHECKOUT).as_posix(), node


def _function_of_re(node: ast.Call) -> str:
    function = node.func
    is_of_re = isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "re"
    return function.attr if is_of_re and isinstance(function, ast.Attribute) else ""


def method_of(path: str, expression: str) -> str | None:
    found = [method for start, method in EXPRESSIONS.get(path, {}).items() if expression.startswith(start)]
    return found[0] if len(found) == 1 else None


def compiled(path: str, call: ast.Call) -> re.Pattern[Any]:
    names = vars(importlib.import_module(path.removesuffix(".py").replace("/", "."))) | LOCALS
    pattern = eval(ast.unparse(call.args[0]), names)  # noqa: S307 - our own source
    flags = [argument for argument in call.args[1:] if ast.unparse(argument).startswith("re.")]
    flags += [keyword.value for keyword in call.keywords if keyword.arg == "flags"]
    return re.compile(pattern, eval(ast.unparse(flags[0]), names) if flags else 0)  # noqa: S307


def test_every_expression_of_the_source_is_listed_here() -> None:
    found = {(path, ast.unparse(call.args[0])) for path, call in calls()}
    missing = {(path, text) for path, text in found if method_of(path, text) is None}
    assert not missing, (
        "add each to EXPRESSIONS: path → the beginning of the expression, as ast.unparse writes it, → the method that runs it, "
        "such as " + "; ".join(f'"{path}": {{{text[:12]!r}: "fullmatch"}}' for path, text in sorted(missing))
    )
    listed = {(path, start) for path, starts in EXPRESSIONS.items() for start in starts}
    unused = {
        (path, start) for path, start in listed if not any(text.startswith(start) for where, text in found if where == path)
    }
    assert unused == set()


@pytest.mark.parametrize("path", EXPRESSIONS)
def test_an_expression_takes_linear_time(path: str) -> None:
    for where, call in calls():
        expression = ast.unparse(call.args[0])
        if where == path and not any(path == whose and expression.startswith(start) for whose, start in OWN):
            takes_linear_time(path, call)


def takes_linear_time(path: str, call: ast.Call) -> None:
    method = method_of(path, ast.unparse(call.args[0]))
    assert method, "add it to EXPRESSIONS, and the method that runs it"
    pattern = compiled(path, call)
    run: Callable[..., Any] = getattr(pattern, method)
    is_bytes = isinstance(pattern.pattern, bytes)

    def work(text: str) -> object:
        content: Any = text.encode() if is_bytes else text
        replacement: Any = b"" if is_bytes else ""
        return run(replacement, content) if method == "sub" else run(content)

    text = pattern.pattern.decode() if is_bytes else str(pattern.pattern)
    own_words = re.findall(r"[A-Za-z]{2,}|[A-Za-z]+://", text)
    for make in pumps(*WORDS, *own_words, *(MASKING if "masking" in path else ())):
        assert_linear(work, make)
