"""Making a pillar inactive enqueues one mail to each of the firm's own people, once."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.given import Given, Json, Person
from tests.support.installation import Installation


@pytest.fixture
def firm(idle: Installation) -> Iterator[Given]:
    given = Given(idle)
    yield given
    given.close()


def mails_about(given: Given, pillar: Json) -> Counter[str]:
    """The number of enqueued mails about the pillar, by address."""
    rows = given.stint.rows(
        "SELECT body->>'to' FROM messages WHERE actor = 'send_mail' AND body->>'subject' LIKE %s", f"%{pillar['name']}%"
    )
    return Counter(address for (address,) in rows)


def own_people(given: Given) -> set[str]:
    """The addresses of the firm's own people with access."""
    rows = given.stint.rows("SELECT email FROM users WHERE starts_with(role, 'internal_') AND revoked_at IS NULL")
    return {email for (email,) in rows}


def a_pillar(given: Given, admin: Person) -> tuple[str, Json]:
    customer = given.customer(admin)
    path = f"/api/customers/{customer['id']}/pillars"
    pillar = admin.post(path, {"name": f"Hosting {given.new_id()}"})
    return f"{path}/{pillar['id']}", pillar


def test_each_of_the_firms_own_people_gets_one_mail(firm: Given) -> None:
    admin = firm.admin()
    firm.people(3)
    path, pillar = a_pillar(firm, admin)
    customers_user = firm.person("customer_admin", customer_id=pillar["customerId"])
    removed = firm.person()
    firm.stint.rows("UPDATE users SET revoked_at = now() WHERE id = %s RETURNING 1", removed.id)

    admin.put(path, {"active": False})

    assert mails_about(firm, pillar) == Counter(own_people(firm))
    assert admin.email in mails_about(firm, pillar)
    assert {customers_user.email, removed.email}.isdisjoint(mails_about(firm, pillar))


def test_making_an_inactive_pillar_inactive_again_sends_no_more_mails(firm: Given) -> None:
    admin = firm.admin()
    path, pillar = a_pillar(firm, admin)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: admin.put(path, {"active": False}), range(8)))
    assert mails_about(firm, pillar) == Counter(own_people(firm))


def test_each_inactivation_sends_its_own_mails(firm: Given) -> None:
    admin = firm.admin()
    path, pillar = a_pillar(firm, admin)
    for active in (False, True, False):
        admin.put(path, {"active": active})
    assert set(mails_about(firm, pillar).values()) == {2}
    assert set(mails_about(firm, pillar)) == own_people(firm)


def test_a_refused_inactivation_sends_no_mail(firm: Given) -> None:
    admin = firm.admin()
    path, pillar = a_pillar(firm, admin)
    admin.put(path, {"active": False, "version": pillar["version"] + 1}, status=409)
    assert not mails_about(firm, pillar)
