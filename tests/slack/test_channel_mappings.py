"""Channel mappings: create, change, delete; one mapping per channel."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.answers import problem
from tests.support.given import Given, Json, Person

PATH = "/api/slack/channel-mappings"


@pytest.fixture
def body(customer: Json, given: Given) -> Json:
    return {"channelId": f"C{given.new_id()[:8].upper()}", "channelName": "acme", "customerId": customer["id"]}


def test_a_mapping_is_created_read_changed_and_deleted(person: Person, given: Given, body: Json) -> None:
    made = person.post(PATH, body)
    assert {name: made[name] for name in body} == body and made["pillarId"] is None
    assert made in person.get(PATH)["items"]

    other = given.customer(person)
    pillar = person.post(f"/api/customers/{other['id']}/pillars", {"name": "Hosting"})
    changed = person.put(f"{PATH}/{made['id']}", {"customerId": other["id"], "pillarId": pillar["id"], "version": 1})
    assert (changed["customerId"], changed["pillarId"], changed["version"]) == (other["id"], pillar["id"], 2)
    back = person.put(f"{PATH}/{made['id']}", {"customerId": body["customerId"]})
    assert back["pillarId"] is None  # a pillar of the old customer is not one of the new customer
    problem(person.http.put(f"{PATH}/{made['id']}", json={"channelName": "x", "version": 1}), 409)

    person.delete(f"{PATH}/{made['id']}")
    assert made["id"] not in [row["id"] for row in person.get(PATH)["items"]]
    problem(person.http.put(f"{PATH}/{made['id']}", json={"channelName": "x"}), 404)
    problem(person.http.delete(f"{PATH}/{made['id']}"), 404)
    person.post(PATH, body)  # the channel is free again


def test_a_channel_has_one_mapping(person: Person, given: Given, body: Json) -> None:
    other = body | {"customerId": given.customer(person)["id"]}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda mapping: person.http.post(PATH, json=mapping), [body, other] * 4))
    assert sorted(answer.status_code for answer in answers) == [201, *[409] * 7]

    second = person.post(PATH, other | {"channelId": body["channelId"] + "2"})
    problem(person.http.put(f"{PATH}/{second['id']}", json={"channelId": body["channelId"]}), 409)


def test_a_repeated_create_returns_the_same_mapping(person: Person, given: Given, body: Json) -> None:
    named = body | {"id": given.new_id()}
    assert person.post(PATH, named) == person.post(PATH, named)
    problem(person.http.post(PATH, json=named | {"channelName": "other"}), 409)


def test_an_invalid_mapping_is_refused(person: Person, given: Given, body: Json) -> None:
    others_pillar = person.get(f"/api/customers/{given.customer(person)['id']}/pillars")["items"][0]["id"]
    for wrong, path in (
        ({"customerId": given.new_id()}, "customerId"),
        ({"pillarId": given.new_id()}, "pillarId"),
        ({"pillarId": others_pillar}, "pillarId"),
        ({"channelId": "#general"}, "channelId"),
        ({"channelName": " "}, "channelName"),
        ({"pillarID": None}, "pillarID"),
    ):
        assert problem(person.http.post(PATH, json=body | wrong), 422)["errors"][0]["path"] == path
    made = person.post(PATH, body)
    assert (
        problem(person.http.put(f"{PATH}/{made['id']}", json={"pillarId": others_pillar}), 422)["errors"][0]["path"]
        == "pillarId"
    )
    problem(person.http.put(f"{PATH}/{made['id']}", json={}), 422)
    problem(person.http.put(f"{PATH}/{given.new_id()}", json={"channelName": "x"}), 404)


def test_customers_users_may_not_use_mappings(person: Person, given: Given, body: Json) -> None:
    theirs = given.person("customer_admin", body["customerId"])
    made = person.post(PATH, body)
    for answer in (
        theirs.http.get(PATH),
        theirs.http.post(PATH, json=body),
        theirs.http.put(f"{PATH}/{made['id']}", json={"channelName": "x"}),
        theirs.http.delete(f"{PATH}/{made['id']}"),
    ):
        problem(answer, 403)


def test_a_deleted_customers_channel_can_be_mapped_again(person: Person, given: Given, body: Json) -> None:
    made = person.post(PATH, body)
    person.delete(f"/api/customers/{body['customerId']}")

    assert made["id"] not in [row["id"] for row in person.get(PATH)["items"]]
    person.post(PATH, body | {"customerId": given.customer(person)["id"]})


def test_a_deleted_pillar_is_no_longer_preset(person: Person, body: Json) -> None:
    pillar = person.post(f"/api/customers/{body['customerId']}/pillars", {"name": "Hosting"})
    made = person.post(PATH, body | {"pillarId": pillar["id"]})

    person.delete(f"/api/customers/{body['customerId']}/pillars/{pillar['id']}")

    [row] = [row for row in person.get(PATH)["items"] if row["id"] == made["id"]]
    assert row["pillarId"] is None
