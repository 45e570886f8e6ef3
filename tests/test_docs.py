"""The documents are true: links lead somewhere, files and functions that they name exist, and their commands run."""

import ast
import builtins
import re
import signal
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import psycopg
import pytest

from ops.state import CHECKOUT
from schemas.postgres.migrate import MIGRATIONS
from tests.support.installation import new_database_without_key
from tests.support.pages import Block, assert_prints, blocks, paste, steps
from tests.support.up import Up

PAGES = sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").glob("*.md")])
# decisions and the changelog describe the past, so names in them may be gone
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
CODE = [path for top in ("api", "actors", "ops", "schemas", "tests") for path in (CHECKOUT / top).rglob("*.py")]

# The command blocks that are not pasted here: page, how the block begins, and the reason.
NOT_PASTED = {
    ("README.md", "./stint up      # everything"): "runs until Ctrl-C, which the fixture `up` does; or runs all tests",
    ("CONTRIBUTING.md", "./stint up    "): "runs until Ctrl-C, or runs tests",
    ("CONTRIBUTING.md", "./stint test tests/api"): "runs tests",
    ("deployment.md", ""): "changes the machine: tests/deploy/ runs what can be run elsewhere",
    ("three-hosts.md", ""): "changes four machines: tests/deploy/test_guide.py runs what can be run elsewhere",
    ("debugging.md", "pip install py-spy"): "needs the network, and to be root",
    ("debugging.md", "./stint bench"): "takes a minute; tests/ops/test_bench.py runs it",
    ("performance.md", "./stint bench"): "takes minutes; tests/ops/test_bench.py runs it",
    ("operations.md", "./stint faults --drill"): "takes minutes; tests/faults/test_drill.py runs a part of it",
    ("operations.md", "./stint faults --cluster"): "takes minutes; tests/cluster/test_cluster.py runs a part of it",
    ("operations.md", "$ ./stint"): "shows servers that fail: tests/ops/test_operations_page.py makes them and compares",
    ("operations.md", "./stint backup backups"): "tests/ops/test_backup.py runs these commands, and compares the rows",
    ("operations.md", "./stint restore backups"): "replaces the database: tests/ops/test_backup.py does that",
    ("operations.md", "pgbackrest"): "needs a server of its own: tests/ops/test_pgbackrest.py runs these blocks",
    ("operations.md", 'export PATH="$(echo'): "tests/ops/test_moments.py runs this and the next blocks, and restores",
    ("operations.md", "mkdir -p -m 700 backups/wal"): "as above",
    ("operations.md", "pg_basebackup"): "as above",
    ("operations.md", "./stint stop\nBASE="): "as above",
    ("sandbox.md", ""): "needs the sandbox: tests/ops/test_up_sandbox.py pastes its sections",
}
# Names in backticks of the form a.b that are not Python's: fields of JSON, and names of other programs.
OTHER_NAMES = {
    "xero.status", "xero.error", "xero.waitingFor", "xero.inXero", "xero.accepted", "views.open", "users.info", "stint.events",
    "basic.reject", "basic.nack",
    "task.put", "timer.start", "timer.stop", "entry.put", "entry.patch", "entry.delete", "entry.notes", "public.pem", "ca.key",
}  # fmt: skip
FILES = ("py", "conf", "cfg", "md", "sql", "json", "toml", "lock", "yaml", "html")
# Variables that have the same name everywhere, by their class.
VARIABLES = {"conn": "Connection", "database": "Database", "given": "Given", "own": "Installation", "call": "ExternalCall"}


def pasted_blocks(page: Path) -> list[Block]:
    """The page's blocks without those of NOT_PASTED."""
    left_out = [start for name, start in NOT_PASTED if name == page.name]
    return [block for block in blocks(page) if not any(block.text.startswith(start) for start in left_out)]


def spans(page: Path) -> list[str]:
    """What is in backticks, outside of blocks."""
    prose = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def ids(page: Path) -> str:
    return page.name


# ---------------------------------------------------------------------------------------------------------------------
# Links, names and lines


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_no_line_that_continues_a_sentence_begins_like_a_list(page: Path) -> None:
    """Markdown makes an item of a list of a line that begins with `1. ` or `- `."""
    prose = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"^ *(?![|#])[^\n]*[a-z,]\n *(?:1[.)]|[-+*]|#+) [^\n]*", prose, re.MULTILINE) == []


@pytest.mark.parametrize("page", [*PAGES, *sorted((CHECKOUT / "docs/decisions").glob("*.md"))], ids=ids)
def test_all_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)", page.read_text()):
        file = page.parent / target if target else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, (
                f"{target}#{anchor}"
            )


@pytest.mark.parametrize("page", CURRENT, ids=ids)
def test_all_files_that_are_named_exist(page: Path) -> None:
    top = "|".join(path.name for path in CHECKOUT.iterdir() if path.is_dir() and not path.name.startswith("."))
    named = {span for span in spans(page) if re.fullmatch(rf"({top})/[\w/.-]*", span)}
    missing = {name for name in named if not (CHECKOUT / name).exists() and "NNNN" not in name}
    assert missing == set(), "renamed or removed? write the new name"
    # a file without its folder, as in `approval.py`
    bare = {span for span in spans(page) if re.fullmatch(r"\w+\.py", span)}
    assert bare - {path.name for path in CODE} == set()


@cache
def names() -> dict[str, set[str]]:
    """What each module and class, by its own name, defines; and each table its columns."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in CODE:
        tree = ast.parse(path.read_text())
        for node in tree.body:
            found[path.stem] |= _defined(node)
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    found[node.name] |= _defined(inner)
                found[node.name] |= {
                    inner.attr
                    for inner in ast.walk(node)
                    if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store)
                }
    for migration in sorted(MIGRATIONS.glob("*.sql")):
        for table, columns in re.findall(r"^CREATE TABLE (\w+) \((.*?)^\)", migration.read_text(), re.MULTILINE | re.DOTALL):
            found[table] |= set(re.findall(r"^    (\w+) ", columns, re.MULTILINE))
    return found


def _defined(node: ast.stmt) -> set[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Assign(targets=targets):
            return {target.id for target in targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


@pytest.mark.parametrize("page", CURRENT, ids=ids)
def test_all_functions_and_classes_that_are_named_exist(page: Path) -> None:
    wrong = []
    for span in spans(page):
        if match := re.fullmatch(r"[\w/]+/(\w+)\.py:? (\w+)", span):  # `schemas/outbox/outbox.py: enqueue`
            owner, name = match.groups()
        elif (match := re.match(r"(\w+)\.([a-zA-Z_]+)\b(?!\.)", span)) and match[2] not in FILES:
            owner, name = match.groups()
        else:
            continue
        if name not in names().get(VARIABLES.get(owner, owner), ()) and f"{owner}.{name}" not in OTHER_NAMES:
            wrong.append(f"{owner}.{name}")
    assert wrong == [], "renamed or removed? write the new name, or add it to OTHER_NAMES if it is not Python's"


@pytest.mark.parametrize("page", CURRENT, ids=ids)
def test_what_is_said_to_be_in_a_file_is_defined_there(page: Path) -> None:
    for name, file in re.findall(r"`(\w+)` in `([\w/]+\.(?:py|sql))`", " ".join(page.read_text().split())):
        text = (CHECKOUT / file).read_text()
        assert re.search(rf"(def|class|FUNCTION) {name}\b|^ *{name}\b.* = |self\.{name} = ", text, re.MULTILINE), (
            f"{name} in {file}"
        )


@pytest.mark.parametrize(
    "page", [page for page in CURRENT if page.name in ("architecture.md", "style.md", "CONTRIBUTING.md")], ids=ids
)
def test_every_name_in_these_pages_is_somewhere_in_the_code(page: Path) -> None:
    """A name in snake_case or CamelCase, alone in backticks: of a function, class, table, column, field or state."""
    code = "\n".join(path.read_text() for path in [*CODE, *MIGRATIONS.glob("*.sql"), CHECKOUT / "pyproject.toml"])
    words = set(re.findall(r"\w+", code))
    named = {span for span in spans(page) if re.fullmatch(r"[a-z]+_\w+|[A-Z]\w*[a-z]\w*[A-Z]\w*|[A-Z_]{4,}", span)}
    examples = [ast.parse(block.text) for block in blocks(page, "python")]
    made = {word for block in blocks(page, "python", "sql") for word in re.findall(r"(?:class|def|COLUMN) (\w+)", block.text)}
    used = {node.id for tree in examples for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.attr for tree in examples for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert (named | used) - words - made - set(dir(builtins)) == set()


# ---------------------------------------------------------------------------------------------------------------------
# Blocks


def test_every_reason_belongs_to_a_block() -> None:
    for name, start in NOT_PASTED:
        [page] = [page for page in PAGES if page.name == name]
        assert [block for block in blocks(page, "sh", "console") if block.text.startswith(start)], (name, start)


def test_all_tests_that_a_page_runs_exist() -> None:
    lines = [line for page in CURRENT for block in blocks(page, "sh") for line in block.text.splitlines()]
    named = {word for line in lines if line.startswith("./stint test") for word in line.split() if word.startswith("tests/")}
    assert named and {name for name in named if not (CHECKOUT / name).exists()} == set()


def test_every_command_block_says_its_language() -> None:
    bare = [f"{page.name}: {block.text[:60]}" for page in CURRENT for block in blocks(page, "", "bash", "shell")]
    assert [text for text in bare if re.search(r"\./stint|curl|\$ ", text)] == []


@pytest.mark.parametrize("page", CURRENT, ids=ids)
def test_python_blocks_are_python(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block.text, page.name, "exec", flags=ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.fixture(scope="module")
def up(database_url: str, amqp_url_apart: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """On the servers of the tests."""
    up = Up(tmp_path_factory.mktemp("docs") / "state")
    try:
        yield up.start(DATABASE_URL=new_database_without_key(database_url), AMQP_URL=amqp_url_apart)
    finally:
        if up.process.poll() is None:
            up.end(signal.SIGTERM)


@pytest.mark.processes
def test_every_sql_block_runs(up: Up) -> None:
    with psycopg.connect(up.run_json()["database_url"]) as conn:
        for page in CURRENT:
            for block in blocks(page, "sql"):
                if page.name != "CONTRIBUTING.md":
                    conn.execute(block.text.encode())
                    conn.rollback()


PASTED = [page for page in CURRENT if steps(pasted_blocks(page))]


def test_pages_with_commands_are_pasted() -> None:
    assert {page.name for page in PASTED} == {"README.md", "debugging.md", "operations.md"}


@pytest.mark.processes
@pytest.mark.parametrize("page", PASTED, ids=ids)
def test_commands_run_as_pasted_and_print_what_the_page_shows(page: Path, up: Up, tmp_path: Path) -> None:
    """All blocks of the page, one right after another, in one shell."""
    pasted = steps(pasted_blocks(page))
    for step, output in zip(pasted, paste(pasted, up, tmp_path), strict=True):
        assert_prints(step, output)


@pytest.mark.processes
def test_the_commands_of_the_readme_can_be_pasted_again(up: Up, tmp_path: Path) -> None:
    pasted = steps(pasted_blocks(CHECKOUT / "README.md"))
    paste(pasted, up, tmp_path)
