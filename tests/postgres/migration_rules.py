"""What a migration may contain, so that the version before works on while it runs: rules on what Postgres's own parser reads.

A statement is short if it changes only the catalog. One that reads or writes all rows of a table must not lock it meanwhile.
"""

from collections.abc import Iterator
from typing import Any

from pglast import ast, parse_sql
from pglast.enums import AlterTableType as Alter
from pglast.enums import ConstrType, ObjectType
from pglast.visitors import Visitor

from schemas.postgres.migrate import IN_BATCHES, OUTSIDE_OF_A_TRANSACTION, statements

# Tables that do not grow: a few rows, or one for each process.
SMALL = {
    "heartbeats", "installation", "last_backup", "migrations", "outages", "sync_epoch_marker", "user_pool_readings",
    "xero_connection", "xero_tenants",
}  # fmt: skip
MOST_LOCKED = 2  # existing tables that one transaction locks: it waits LOCK_SECONDS for each, and holds the others
SHORT = {
    Alter.AT_AddColumn, Alter.AT_AddConstraint, Alter.AT_ColumnDefault, Alter.AT_DropColumn, Alter.AT_DropConstraint,
    Alter.AT_DropNotNull, Alter.AT_SetRelOptions, Alter.AT_SetStatistics, Alter.AT_ValidateConstraint,
}  # fmt: skip
HARMLESS = (
    ast.CommentStmt, ast.CreateFunctionStmt, ast.CreateSeqStmt, ast.CreateStmt, ast.CreateTrigStmt, ast.DropStmt, ast.ViewStmt,
    ast.SelectStmt, ast.AlterTableStmt, ast.IndexStmt, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.VariableSetStmt,
)  # fmt: skip


def refusals(text: str) -> list[str]:
    """Why the migration is refused, a sentence for each reason; empty: it is not."""
    kind = text.partition("\n")[0]
    if kind == OUTSIDE_OF_A_TRANSACTION:
        return list(_outside(text))
    if kind == IN_BATCHES:
        return list(_in_batches(text))
    return list(_in_a_transaction([raw.stmt for raw in parse_sql(text)]))


def _outside(text: str) -> Iterator[str]:
    parsed: list[Any] = [raw.stmt for raw in parse_sql(text)]
    if len(parsed) != len(statements(text)):
        yield "Each statement outside of a transaction ends with its line, and no line within one ends with a semicolon."
    for statement in parsed:
        match statement:
            case ast.IndexStmt(concurrent=True, if_not_exists=True):
                pass
            case ast.DropStmt(removeType=ObjectType.OBJECT_INDEX, concurrent=True, missing_ok=True):
                pass
            case ast.CreateStatsStmt(if_not_exists=True) | ast.VacuumStmt(is_vacuumcmd=False):  # the latter is ANALYZE
                pass
            case ast.AlterTableStmt() if all(
                command.subtype == Alter.AT_ValidateConstraint for command in _commands(statement)
            ):
                pass
            case _:
                yield (
                    f"{_name(statement)} is not for a file outside of a transaction: only CREATE INDEX CONCURRENTLY IF NOT"
                    " EXISTS, DROP INDEX CONCURRENTLY IF EXISTS, CREATE STATISTICS IF NOT EXISTS, ANALYZE and VALIDATE"
                    " CONSTRAINT lock out nobody and can run again."
                )


def _in_batches(text: str) -> Iterator[str]:
    parsed: list[Any] = [raw.stmt for raw in parse_sql(text.replace("%(after)s", "NULL").replace("%%", "%"))]
    if len(parsed) != 1 or not isinstance(parsed[0], ast.SelectStmt):
        yield "A file in batches is one SELECT, with the change in its WITH."
    if "%(after)s" not in text:
        yield "A batch begins after the last key of the one before: %(after)s."
    found = _Limits()
    found(parsed[0])
    if not found.sorted_and_limited:
        yield "A batch has a LIMIT, and an ORDER BY the key."


class _Limits(Visitor):
    sorted_and_limited = False

    def visit_SelectStmt(self, _: Any, node: ast.SelectStmt) -> None:
        self.sorted_and_limited |= bool(node.limitCount and node.sortClause)


def _in_a_transaction(parsed: list[Any]) -> Iterator[str]:
    new = {_table(statement) for statement in parsed if isinstance(statement, ast.CreateStmt)}
    locked: set[str] = set()
    for statement in parsed:
        if not isinstance(statement, HARMLESS):
            yield f"{_name(statement)} is not known to be harmless: see migration_rules.py."
            continue
        locks = set(_locks(statement)) - new - SMALL
        locked |= locks
        changed = _table(statement)
        if changed in new:
            continue
        match statement:
            case ast.IndexStmt(concurrent=True):
                yield "CREATE INDEX CONCURRENTLY needs a file outside of a transaction."
            case ast.IndexStmt() if changed not in SMALL:
                yield f"Nobody can write to {changed} while an index is created: CONCURRENTLY, outside of a transaction."
            case ast.UpdateStmt() | ast.DeleteStmt() if changed not in SMALL:
                yield f"All rows that this changes in {changed} stay locked until it ends: write it in batches."
            case ast.InsertStmt() if changed not in SMALL and getattr(statement.selectStmt, "fromClause", None):
                yield f"This may insert many rows into {changed}: write it in batches."
            case ast.AlterTableStmt():
                for command in _commands(statement):
                    yield from _altered(changed, command)
    if len(locked) > MOST_LOCKED:
        yield f"One transaction locks {', '.join(sorted(locked))}: at most {MOST_LOCKED} tables in a file."
    validates = [s for s in parsed if isinstance(s, ast.AlterTableStmt) and _validates(s)]
    if validates and len(validates) < len(parsed):
        yield "VALIDATE CONSTRAINT reads all rows, under the locks of the other statements: it needs a file of its own."


def _validates(statement: Any) -> bool:
    return any(command.subtype == Alter.AT_ValidateConstraint for command in _commands(statement))


def _commands(statement: Any) -> tuple[Any, ...]:
    """What an ALTER TABLE does."""
    return statement.cmds or ()


def _table(statement: Any) -> str:
    """The table that the statement is about; empty: none."""
    return getattr(getattr(statement, "relation", None), "relname", None) or ""


def _locks(statement: Any) -> Iterator[str]:
    """The tables that requests wait for while the statement has its lock."""
    if isinstance(statement, ast.AlterTableStmt | ast.CreateTrigStmt | ast.IndexStmt):
        yield _table(statement)
    for element in getattr(statement, "tableElts", None) or ():
        yield from (c.pktable.relname for c in (element, *(getattr(element, "constraints", None) or ())) if _is_foreign(c))


def _is_foreign(constraint: Any) -> bool:
    return isinstance(constraint, ast.Constraint) and constraint.contype == ConstrType.CONSTR_FOREIGN


def _altered(table: str, command: Any) -> Iterator[str]:
    if command.subtype not in SHORT:
        yield f"ALTER TABLE {table} … {Alter(command.subtype).name} reads or rewrites the table, or breaks the version before."
    elif command.subtype == Alter.AT_AddColumn:
        yield from _added(table, command.def_)
    elif command.subtype == Alter.AT_AddConstraint and table not in SMALL:
        constraint = command.def_
        if constraint.contype in (ConstrType.CONSTR_CHECK, ConstrType.CONSTR_FOREIGN):
            if not constraint.skip_validation:
                yield f"The constraint on {table} is checked under a lock: add it NOT VALID, and VALIDATE it in the next file."
        elif not constraint.indexname:
            yield f"The index of the constraint on {table} is created under a lock: create it CONCURRENTLY, then USING INDEX."


def _added(table: str, column: Any) -> Iterator[str]:
    kinds = {constraint.contype: constraint for constraint in column.constraints or ()}
    default = kinds.get(ConstrType.CONSTR_DEFAULT)
    if ConstrType.CONSTR_NOTNULL in kinds and default is None:
        yield f"The version before inserts into {table} without {column.colname}: it needs a default, or may be null."
    if default is not None and not _is_constant(default.raw_expr):
        yield f"The default of {table}.{column.colname} may rewrite the table: only a constant, or now()."
    if kinds.keys() - {ConstrType.CONSTR_DEFAULT, ConstrType.CONSTR_NOTNULL, ConstrType.CONSTR_NULL} and table not in SMALL:
        yield f"A constraint in the column {table}.{column.colname} reads the table under a lock: ADD CONSTRAINT … NOT VALID."


def _is_constant(expression: Any) -> bool:
    match expression:
        case ast.A_Const():
            return True
        case ast.TypeCast(arg=argument):
            return _is_constant(argument)
        case ast.FuncCall(funcname=names):
            return [name.sval for name in names or ()] == ["now"]
    return False


def _name(statement: Any) -> str:
    return type(statement).__name__.removesuffix("Stmt")
