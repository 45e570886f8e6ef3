"""Users of a customer: who may invite and remove them, and that invitations reveal nothing about other accounts."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.api.invitations import address, invite, mails_to, path
from tests.support.answers import Json, problem
from tests.support.given import Given, Person
from tests.support.installation import Installation

pytestmark = pytest.mark.usefixtures("no_limits")


@pytest.mark.parametrize("who", ["internal_user", "internal_admin", "customer_admin"])
@pytest.mark.parametrize("role", ["customer_user", "customer_admin"])
def test_an_invited_user_who_signs_in_is_active(who: str, role: str, given: Given, stint: Installation) -> None:
    customer = given.customer(given.person())
    by, email = given.person(who, customer["id"] if who == "customer_admin" else None), address(given)

    invited = invite(by, customer, email, role=role)

    assert invited == {
        "id": invited["id"], "customerId": customer["id"], "email": email, "name": "Jo Miller", "role": role,
        "status": "invited", "invitedAt": invited["invitedAt"], "joinedAt": None,
        "createdAt": invited["createdAt"], "updatedAt": invited["updatedAt"],
    }  # fmt: skip
    [mail] = mails_to(stint, email)
    assert customer["name"] in mail["subject"] and "Sign in" in str(mail) and email in str(mail["paragraphs"])

    user = given.person(role, customer["id"], email=email)
    assert (user.id, user.get("/api/me")["customerId"]) == (invited["id"], customer["id"])
    [row] = [item for item in by.get(path(customer))["items"] if item["id"] == invited["id"]]
    assert row["status"] == "active" and row["joinedAt"] > row["invitedAt"]


def test_the_list_is_paged_newest_first_and_has_only_this_customers_users(given: Given, acme: Json, boss: Person) -> None:
    other = given.customer(given.person())
    invite(given.person(), other, address(given))
    ids = [invite(boss, acme, address(given))["id"] for _ in range(3)]

    first = boss.get(path(acme), limit=2)
    rest = boss.get(path(acme), limit=2, cursor=first["nextCursor"])

    assert [item["id"] for item in first["items"] + rest["items"]] == [*reversed(ids), boss.id]
    assert rest["nextCursor"] is None


@pytest.mark.parametrize("account", ["another customer's", "the firm's"])
def test_a_customers_administrator_does_not_learn_that_an_address_has_another_account(
    account: str, given: Given, stint: Installation, acme: Json, boss: Person
) -> None:
    other = given.customer(given.person())
    taken = given.person("customer_user", other["id"]) if account == "another customer's" else given.person()
    new = address(given)

    known, unknown = (
        boss.http.post(path(acme, "/invite"), json={"email": email, "name": "Jo"}) for email in (taken.email, new)
    )

    assert known.status_code == unknown.status_code == 201
    comparable = [{key: value for key, value in answer.json().items() if key not in ("id", "email") and not key.endswith("At")}
            for answer in (known, unknown)]  # fmt: skip
    assert comparable[0] == comparable[1]
    assert {name.lower() for name in known.headers} == {name.lower() for name in unknown.headers}
    # listed, invited again, resent, removed: still no difference
    assert {taken.email, new} <= {item["email"] for item in boss.get(path(acme))["items"]}
    for email in (taken.email, new):
        invite(boss, acme, email, 409)
        assert boss.post(path(acme, "/resend-invite"), {"email": email}, status=202)["status"] == "invited"
    # only the mail says why the invitation has no effect, and the other account is unchanged
    mails = mails_to(stint, taken.email)
    assert len(mails) == 2 and all("another account" in str(mail["paragraphs"]) and mail["link"] is None for mail in mails)
    assert len(mails_to(stint, new)) == 2
    assert taken.get("/api/me")["role"] in ("customer_user", "internal")
    for answer in (known, unknown):
        boss.delete(path(acme, f"/{answer.json()['id']}"))
    assert taken.http.get("/api/me").status_code == 200


def test_an_internal_user_learns_that_an_address_is_taken(given: Given, acme: Json) -> None:
    taken, by = given.people(2)
    assert "another account" in invite(by, acme, taken.email, 409)["detail"]


def test_an_address_that_another_customer_removed_can_be_invited(
    given: Given, stint: Installation, acme: Json, boss: Person
) -> None:
    other, email = given.customer(given.person()), address(given)
    firm = given.person()
    firm.delete(path(other, f"/{invite(firm, other, email)['id']}"))
    invite(boss, acme, email)
    assert "another account" not in str(mails_to(stint, email)[-1])


def test_a_removed_user_is_refused_at_the_very_next_request(
    given: Given, acme: Json, boss: Person, stint: Installation
) -> None:
    user = given.person("customer_user", acme["id"])
    user.get("/api/tasks")  # caches the verified token

    boss.delete(path(acme, f"/{user.id}"))

    problem(user.http.get("/api/tasks"), 401)
    assert user.id not in {item["id"] for item in boss.get(path(acme))["items"]}
    problem(boss.http.delete(path(acme, f"/{user.id}")), 404)
    assert stint.value("SELECT count(*) FROM sign_in_codes WHERE user_id = %s", user.id) == 0


def test_a_removed_user_can_be_invited_again_and_old_tokens_stay_invalid(given: Given, acme: Json, boss: Person) -> None:
    email = address(given)
    before = invite(boss, acme, email, role="customer_admin")
    old = given.person("customer_admin", acme["id"], email=email)
    boss.delete(path(acme, f"/{before['id']}"))

    after = invite(boss, acme, email, role="customer_user")

    assert after["id"] != before["id"] and after["status"] == "invited"
    problem(old.http.get("/api/me"), 401)  # an old token with the old role
    assert given.person("customer_user", acme["id"], email=email).id == after["id"]
    problem(old.http.get("/api/me"), 401)


def test_users_of_another_customer_look_like_unknown_ones(given: Given, acme: Json, boss: Person) -> None:
    firm = given.person()
    other = given.customer(firm)
    theirs = invite(firm, other, address(given))
    nowhere = {"id": given.new_id()}
    for person, status in ((boss, 404), (given.person("customer_user", acme["id"]), 403)):
        answers = [
            [
                person.http.get(path(where)),
                person.http.post(path(where, "/invite"), json={"email": address(given), "name": "Jo"}),
                person.http.post(path(where, "/resend-invite"), json={"userId": theirs["id"]}),
                person.http.delete(path(where, f"/{theirs['id']}")),
            ]
            for where in (other, nowhere)
        ]
        for known, unknown in zip(*answers, strict=True):
            assert problem(known, status)["detail"] == problem(unknown, status)["detail"]
    # the same below the path of the own customer
    problem(boss.http.delete(path(acme, f"/{theirs['id']}")), 404)
    problem(boss.http.post(path(acme, "/resend-invite"), json={"userId": theirs["id"]}), 404)
    problem(boss.http.post(path(acme, "/resend-invite"), json={"email": theirs["email"]}), 404)
    assert [item["id"] for item in firm.get(path(other))["items"]] == [theirs["id"]]


def test_a_customers_user_may_not_manage_users(given: Given, acme: Json, boss: Person) -> None:
    user = given.person("customer_user", acme["id"])
    for answer in (
        user.http.get(path(acme)),
        user.http.post(path(acme, "/invite"), json={"email": address(given), "name": "Jo"}),
        user.http.post(path(acme, "/resend-invite"), json={"userId": boss.id}),
        user.http.delete(path(acme, f"/{boss.id}")),
    ):
        problem(answer, 403)
    boss.get("/api/me")


def test_internal_users_cannot_be_removed_through_a_customer(given: Given, acme: Json) -> None:
    firm, by = given.people(2)
    problem(by.http.delete(path(acme, f"/{firm.id}")), 404)
    promoted = given.person("customer_user", acme["id"])
    given.person("internal_user", email=promoted.email)
    problem(by.http.delete(path(acme, f"/{promoted.id}")), 404)


def test_a_deleted_customer_gets_no_users(given: Given) -> None:
    firm = given.person()
    customer = given.customer(firm)
    boss = given.person("customer_admin", customer["id"])
    firm.delete(f"/api/customers/{customer['id']}")
    invite(firm, customer, address(given), 404)
    firm.get(path(customer), status=404)
    problem(boss.http.get(path(customer)), 401)


def test_a_new_user_of_a_deleted_customer_is_401_with_the_reason(given: Given) -> None:
    firm = given.person()
    customer = given.customer(firm)
    firm.delete(f"/api/customers/{customer['id']}")
    late = given.person("customer_user", customer["id"])
    assert "deleted" in problem(late.http.get("/api/tasks"), 401)["detail"]


def test_an_invitation_concurrent_with_the_customers_deletion_gives_no_access(given: Given, stint: Installation) -> None:
    firm = given.person()
    for _ in range(10):
        customer, email = given.customer(firm), address(given)
        with ThreadPoolExecutor(2) as pool:
            invited = pool.submit(firm.http.post, path(customer, "/invite"), json={"email": email, "name": "Jo"})
            deleted = pool.submit(firm.http.delete, f"/api/customers/{customer['id']}")
            assert invited.result().status_code in (201, 404) and deleted.result().status_code == 204
        assert stint.value("SELECT count(*) FROM users WHERE email = %s AND revoked_at IS NULL", email) == 0
