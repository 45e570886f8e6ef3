"""Which module may import which: three entry points over one domain, and the ladder of the domain's packages."""

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
# An entry point imports itself and the domain; the domain imports only itself.
MAY_IMPORT = {
    "api": {"api", "schemas"},
    "actors": {"actors", "schemas"},
    "ops": {"ops", "schemas"},
    "schemas": {"schemas"},
}
# The packages of the domain from the bottom up: each imports only from those on lower steps. Modules directly in `schemas/`
# stand below all of them, but for those that are named here.
LADDER = [
    {"servers"},
    {"postgres", "rabbitmq"},
    {"mail", "rate_limits"},
    {"outbox"},
    {"identity"},
    {"customers"},
    {"hours"},
    {"reports"},
    {"xero", "slack", "sync"},
    {"diagnosis"},
]
STEP = {name: step for step, names in enumerate(LADDER, 1) for name in names}
MOST_MODULES = 15  # in a package, with its __init__.py
# libraries that only one entry point imports
ONLY_IN = {"litestar": "api", "uvicorn": "api", "dramatiq": "actors"}
# and those that only the modules of the domain import that speak to what is outside
CLIENTS = {
    "pika": {"rabbitmq/problems.py", "rabbitmq/amqp.py", "rabbitmq/hosts.py"},
    "aiosmtplib": {"mail/smtp.py"},
    "boto3": {"identity/cognito.py"},
    "botocore": {"identity/cognito.py"},
    "httpx2": {"identity/jwks.py", "identity/external/hosted_page.py", "xero/oauth.py", "rabbitmq/management.py"},
    "slack_sdk": {"slack/client.py", "slack/views.py", "slack/commands/views.py", "slack/approvals/rejection_form.py"},
    "aiohttp": {"slack/client.py"},
    "xero_python": {"xero/client.py"},
    "opentelemetry": {"tracing.py"},
}


@dataclass(frozen=True)
class Module:
    """One file of the product."""

    path: Path

    @property
    def name(self) -> str:
        """As it is imported: `schemas.hours.timers`."""
        return str(self.path.relative_to(CHECKOUT).with_suffix("")).replace("/", ".").removesuffix(".__init__")

    @property
    def top(self) -> str:
        """Which of the four folders it is in."""
        return self.path.relative_to(CHECKOUT).parts[0]

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text())

    def imports(self) -> Iterator[tuple[str, str]]:
        """Place and dotted name of each module that it imports; `from package import module` names the module."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((self.at(node), alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.at(node)}: imports are absolute here"
                for alias in node.names:
                    module = f"{node.module}.{alias.name}"
                    yield self.at(node), module if is_ours(module) else str(node.module)

    def at(self, node: ast.stmt | ast.expr) -> str:
        return f"{self.path.relative_to(CHECKOUT)}:{node.lineno}"


def is_ours(name: str) -> bool:
    return (CHECKOUT / name.replace(".", "/")).with_suffix(".py").exists()


@pytest.fixture(scope="module")
def modules() -> list[Module]:
    found = [Module(path) for top in MAY_IMPORT for path in sorted((CHECKOUT / top).rglob("*.py"))]
    assert {module.top for module in found} == set(MAY_IMPORT)
    return found


def test_an_entry_point_imports_only_itself_and_the_domain(modules: list[Module]) -> None:
    wrong = [
        f"{at}: {module.top} must not import {name}: move what both need to schemas/"
        for module in modules
        for at, name in module.imports()
        if ((top := name.partition(".")[0]) in MAY_IMPORT and top not in MAY_IMPORT[module.top])
        or ONLY_IN.get(top, module.top) != module.top
    ]  # fmt: skip
    assert wrong == []


def part_of(name: str) -> str:
    """The package of the domain that a dotted name belongs to, or its module where that is in no package."""
    return [*name.split("."), ""][1]


def test_a_package_of_the_domain_imports_only_from_lower_steps(modules: list[Module]) -> None:
    wrong = []
    for module in modules:
        own = part_of(module.name)
        for at, name in module.imports():
            if module.top == "schemas" and name.startswith("schemas.") and (other := part_of(name)) != own:
                if STEP.get(other, 0) >= STEP.get(own, 0) and (own in STEP or other in STEP):
                    wrong.append(f"{at}: {own} must not import {name}: only from lower steps of LADDER, {LADDER}")
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle(modules: list[Module]) -> None:
    names = {module.name for module in modules}
    left = {module.name: {name for _, name in module.imports() if name in names} for module in modules}
    while free := {name for name, needs in left.items() if not needs & left.keys()}:
        left = {name: needs for name, needs in left.items() if name not in free}
    assert left == {}, "these modules import each other: move what they share to a module below both"


def test_no_package_has_too_many_modules(modules: list[Module]) -> None:
    sizes = Counter(module.path.parent.relative_to(CHECKOUT) for module in modules)
    too_large = {str(package): size for package, size in sizes.items() if size > MOST_MODULES}
    assert too_large == {}, (
        f"a package has at most {MOST_MODULES} modules, with __init__.py: extend the module of the noun, "
        "or move modules that belong together to a package of their own (in schemas/: also in LADDER)"
    )


def test_a_client_library_is_imported_by_its_client_only(modules: list[Module]) -> None:
    wrong = [
        f"{at}: {name} belongs to {', '.join(sorted(clients))}"
        for module in modules
        for at, name in module.imports()
        if (clients := CLIENTS.get(name.partition(".")[0])) is not None
        and module.top not in ("ops", *({"actors"} if name.startswith("pika") else ()))
        and str(module.path.relative_to(CHECKOUT)) not in {f"schemas/{client}" for client in clients}
    ]
    assert wrong == []


def test_nothing_is_sent_past_the_outbox(modules: list[Module]) -> None:
    wrong = [
        f"{module.at(node)}: .{node.attr}: put a message into the outbox: outbox.enqueue(conn, message). If this "
        "sends no message, give it another name: outside api/ no attribute is called send, and only outbox has an enqueue"
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        if node.attr == "send_with_options"
        or (node.attr == "send" and module.top != "api")
        or (node.attr == "enqueue" and ast.unparse(node.value) != "outbox")
    ]
    assert wrong == []
