"""Whether two request bodies are the same: a repeated create request is recognized by the hash of its body."""

from schemas.base import Body


class Rule(Body):
    increment: int = 1


class NewThing(Body):
    """As this version has it."""

    name: str
    note: str | None = None
    rule: Rule = Rule()


class LaterRule(Rule):
    mode: str = "up"


class LaterNewThing(Body):
    """As a later version has it, with more fields."""

    name: str
    note: str | None = None
    rule: LaterRule = LaterRule()
    reference: str | None = None


def test_a_field_that_a_later_version_adds_does_not_change_the_hash_of_a_repeated_request() -> None:
    for body in ({"name": "a"}, {"name": "a", "note": "b", "rule": {"increment": 5}}):
        assert NewThing.model_validate(body).fingerprint() == LaterNewThing.model_validate(body).fingerprint()


def test_a_value_that_is_sent_is_part_of_the_hash() -> None:
    hashes = {
        LaterNewThing.model_validate(body).fingerprint()
        for body in (
            {"name": "a"},
            {"name": "b"},
            {"name": "a", "note": "b"},
            {"name": "a", "rule": {"increment": 5}},
            {"name": "a", "reference": "c"},
        )
    }
    assert len(hashes) == 5


def test_a_default_value_that_is_sent_is_the_same_as_none_sent() -> None:
    explicit = {"name": "a", "note": None, "rule": {"increment": 1}}
    assert NewThing.model_validate(explicit).fingerprint() == NewThing.model_validate({"name": "a"}).fingerprint()
