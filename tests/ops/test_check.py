"""`./stint check` says what failed and what to do. It finds old words, in the files that people read, and the new ones."""

from pathlib import Path

import pytest

from ops.check import Skipped, Step, Word, hosts_in_lock, old_words, parse_words, python, run_steps


def test_an_old_word_is_found_in_code_sql_and_docs_with_the_new_one(tmp_path: Path) -> None:
    for name in ("api/a.py", "schemas/migrations/1.sql", "docs/a.md", "README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("fine\nthe Gadget, and gadgetry\n")
    assert list(old_words([Word(r"\bgadgets?\b", "device")], tmp_path)) == [
        f"{name}:2: Gadget → device" for name in ("README.md", "api/a.py", "docs/a.md", "schemas/migrations/1.sql")
    ]


@pytest.mark.parametrize("between", ["\n", "\n    ", "\n# ", "\n    -- "])
def test_a_term_is_one_also_where_a_line_ends_in_it(between: str, tmp_path: Path) -> None:
    words = [Word(r"\bgadgets?\b(?<!old gadget)(?<!old gadgets)", "device"), Word(r"\btin box\b", "can")]
    (tmp_path / "README.md").write_text(f"one\ntwo old{between}gadgets, three tin{between}box\n\nfour gadgets\n")
    assert list(old_words(words, tmp_path)) == [
        "README.md:3: tin box → can",
        "README.md:6: gadgets → device",
    ]


def test_the_past_and_exceptions_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "docs" / "decisions").mkdir(parents=True)
    for name in ("CHANGELOG.md", "docs/decisions/0001.md", "docs/xero.md"):
        (tmp_path / name).write_text("gadget")
    assert list(old_words([Word("gadget", "device", ["docs/xero.md"])], tmp_path)) == []


def test_a_word_and_its_exceptions_are_one_line_each() -> None:
    assert list(parse_words("# a comment\n\n\\bold\\b → new, newer\n  docs/*.md: Xero's own word\nolder → new\n")) == [
        Word(r"\bold\b", "new, newer", ["docs/*.md"]),
        Word("older", "new"),
    ]


@pytest.mark.parametrize("line", ["a word without an arrow", "  docs/a.md: an exception of nothing", "a → b\n  docs/a.md"])
def test_a_line_that_says_too_little_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        list(parse_words(line))


def test_each_step_prints_its_result_and_one_that_found_something_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    steps = [Step("lint", lambda: "", "correct it"), Step("types", lambda: "a.py:1: wrong\n", "read it")]
    assert run_steps(steps) == 1
    printed = capsys.readouterr().out
    assert "lint: ok\n" in printed and "correct it" not in printed
    assert "types: FAILED\n         a.py:1: wrong\n         → read it\n" in printed
    assert printed.endswith("wrong: types\n")
    assert run_steps(steps[:1]) == 0
    assert capsys.readouterr().out.endswith("all is well\n")


def test_a_step_that_cannot_run_here_is_skipped_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    def skip() -> str:
        raise Skipped("no such tool")

    assert run_steps([Step("lint", skip, "correct it")]) == 0
    printed = capsys.readouterr().out
    assert "lint: skipped: no such tool\n" in printed and "ok" not in printed and "correct it" not in printed


def test_a_tool_that_fails_is_quoted_and_one_that_succeeds_is_not() -> None:
    assert python("ruff", "--version") == ""
    assert "unexpected argument" in python("ruff", "--no-such-option")


def test_the_lock_names_no_host() -> None:
    assert list(hosts_in_lock()) == []
