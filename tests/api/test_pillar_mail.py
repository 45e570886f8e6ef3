"""Making a pillar inactive promises one mail to each of the firm's own people, once."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.given import Given, Json, Person
from tests.installation import Installation


@pytest.fixture
def firm(idle: Installation) -> Iterator[Given]:
    given = Given(idle)
    yield given
    given.close()


def promised(given: Given, pillar: Json) -> Counter[str]:
    """How many mails about the pillar each address was promised."""
    rows = given.stint.rows(
        "SELECT body->>'to' FROM messages WHERE actor = 'send_mail' AND body->>'subject' LIKE %s", f"%{pillar['name']}%"
    )
    return Counter(address for (address,) in rows)


def own_people(given: Given) -> set[str]:
    """All of the firm's own people with access, by their role."""
    rows = given.stint.rows("SELECT email FROM users WHERE starts_with(role, 'internal_') AND revoked_at IS NULL")
    return {email for (email,) in rows}


def a_pillar(given: Given, admin: Person) -> tuple[str, Json]:
    customer = given.customer(admin)
    path = f"/api/customers/{customer['id']}/pillars"
    pillar = admin.post(path, {"name": f"Hosting {given.new_id()}"})
    return f"{path}/{pillar['id']}", pillar


def test_each_of_the_firms_own_people_is_promised_one_mail(firm: Given) -> None:
    admin = firm.admin()
    firm.people(3)
    path, pillar = a_pillar(firm, admin)
    customers_own = firm.person("customer_admin", customer_id=pillar["customerId"])
    gone = firm.person()
    firm.stint.rows("UPDATE users SET revoked_at = now() WHERE id = %s RETURNING 1", gone.id)

    admin.put(path, {"active": False})

    assert promised(firm, pillar) == Counter(own_people(firm))
    assert admin.email in promised(firm, pillar)
    assert {customers_own.email, gone.email}.isdisjoint(promised(firm, pillar))


def test_an_inactive_pillar_made_inactive_again_promises_nothing_more(firm: Given) -> None:
    admin = firm.admin()
    path, pillar = a_pillar(firm, admin)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: admin.put(path, {"active": False}), range(8)))
    assert promised(firm, pillar) == Counter(own_people(firm))


def test_every_inactivation_promises_a_set_of_its_own(firm: Given) -> None:
    admin = firm.admin()
    path, pillar = a_pillar(firm, admin)
    for active in (False, True, False):
        admin.put(path, {"active": active})
    assert set(promised(firm, pillar).values()) == {2}
    assert set(promised(firm, pillar)) == own_people(firm)


def test_a_refused_inactivation_promises_nothing(firm: Given) -> None:
    admin = firm.admin()
    path, pillar = a_pillar(firm, admin)
    admin.put(path, {"active": False, "version": pillar["version"] + 1}, status=409)
    assert not promised(firm, pillar)
