"""Who sees to the users of a customer, and what nobody learns on the way."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.api.answers import Json, problem
from tests.given import Given, Person
from tests.installation import Installation


def path(customer: Json, rest: str = "") -> str:
    return f"/api/customers/{customer['id']}/users{rest}"


def address(given: Given) -> str:
    return f"{given.new_id()}@acme.example"


def invite(by: Person, customer: Json, email: str, status: int = 201, **more: Any) -> Json:
    return by.post(
        path(customer, "/invite"), {"email": email, "name": "Jo Miller", "role": "customer_user"} | more, status=status
    )


def mails_to(stint: Installation, email: str) -> list[Json]:
    found = stint.rows("SELECT body FROM messages WHERE actor = 'send_mail' AND body->>'to' = %s ORDER BY created_at", email)
    return [body for (body,) in found]


def forget_limits(stint: Installation) -> None:
    with stint.sql() as conn:
        conn.execute("DELETE FROM rate_limits")


@pytest.fixture(autouse=True)
def _no_limits(stint: Installation) -> None:
    forget_limits(stint)


@pytest.fixture
def acme(given: Given) -> Json:
    return given.customer(given.person())


@pytest.fixture
def boss(given: Given, acme: Json) -> Person:
    """Acme's administrator."""
    return given.person("customer_admin", acme["id"])


@pytest.mark.parametrize("who", ["internal_user", "internal_admin", "customer_admin"])
@pytest.mark.parametrize("role", ["customer_user", "customer_admin"])
def test_an_invited_user_comes_by_their_address_and_is_active(who: str, role: str, given: Given, stint: Installation) -> None:
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


def test_the_list_is_paged_newest_first_and_has_no_one_elses(given: Given, acme: Json, boss: Person) -> None:
    other = given.customer(given.person())
    invite(given.person(), other, address(given))
    ids = [invite(boss, acme, address(given))["id"] for _ in range(3)]

    first = boss.get(path(acme), limit=2)
    rest = boss.get(path(acme), limit=2, cursor=first["nextCursor"])

    assert [item["id"] for item in first["items"] + rest["items"]] == [*reversed(ids), boss.id]
    assert rest["nextCursor"] is None


def test_the_same_address_again_is_409_in_any_case_of_letters(acme: Json, boss: Person, given: Given) -> None:
    invite(boss, acme, "Jo.Miller@Acme.example")
    for again in ("Jo.Miller@acme.example", "jo.miller@ACME.example"):
        assert "already" in invite(boss, acme, again, 409)["detail"]
        invite(given.person(), acme, again, 409)


def test_two_invitations_of_one_address_at_once_make_one_user(
    given: Given, stint: Installation, acme: Json, boss: Person
) -> None:
    for _ in range(5):
        email = address(given)
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda letter, to=email: boss.http.post(path(acme, "/invite"), json={
                "email": letter + to[1:], "name": "Jo"}), [email[0], email[0].upper(), email[0], email[0]]))  # fmt: skip
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
        assert stint.value("SELECT count(*) FROM users WHERE lower(email) = lower(%s)", email) == 1
        assert stint.value("SELECT count(*) FROM messages WHERE lower(body->>'to') = lower(%s)", email) == 1


@pytest.mark.parametrize("whose", ["another customer's", "the firm's"])
def test_a_customers_administrator_does_not_learn_that_an_address_is_known_elsewhere(
    whose: str, given: Given, stint: Installation, acme: Json, boss: Person
) -> None:
    other = given.customer(given.person())
    held = given.person("customer_user", other["id"]) if whose == "another customer's" else given.person()
    stranger = address(given)

    known, unknown = (
        boss.http.post(path(acme, "/invite"), json={"email": email, "name": "Jo"}) for email in (held.email, stranger)
    )

    assert known.status_code == unknown.status_code == 201
    told = [{key: value for key, value in answer.json().items() if key not in ("id", "email") and not key.endswith("At")}
            for answer in (known, unknown)]  # fmt: skip
    assert told[0] == told[1]
    assert {name.lower() for name in known.headers} == {name.lower() for name in unknown.headers}
    # in the list, asked for again, invited again, removed: still no difference
    assert {held.email, stranger} <= {item["email"] for item in boss.get(path(acme))["items"]}
    for email in (held.email, stranger):
        invite(boss, acme, email, 409)
        assert boss.post(path(acme, "/resend-invite"), {"email": email}, status=202)["status"] == "invited"
    # but the mail says why nothing came of it, and the account goes on as it was
    mails = mails_to(stint, held.email)
    assert len(mails) == 2 and all("another account" in str(mail["paragraphs"]) and mail["link"] is None for mail in mails)
    assert len(mails_to(stint, stranger)) == 2
    assert held.get("/api/me")["role"] in ("customer_user", "internal")
    for answer in (known, unknown):
        boss.delete(path(acme, f"/{answer.json()['id']}"))
    assert held.http.get("/api/me").status_code == 200


def test_an_internal_user_is_told_that_an_address_is_taken(given: Given, acme: Json) -> None:
    held, by = given.people(2)
    assert "another account" in invite(by, acme, held.email, 409)["detail"]


def test_an_address_that_was_removed_elsewhere_can_be_invited_here(
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
    user.get("/api/tasks")  # its token is remembered as verified

    boss.delete(path(acme, f"/{user.id}"))

    problem(user.http.get("/api/tasks"), 401)
    assert user.id not in {item["id"] for item in boss.get(path(acme))["items"]}
    problem(boss.http.delete(path(acme, f"/{user.id}")), 404)
    assert stint.value("SELECT count(*) FROM sign_in_codes WHERE user_id = %s", user.id) == 0


def test_who_was_removed_can_be_invited_again_and_old_tokens_stay_useless(given: Given, acme: Json, boss: Person) -> None:
    email = address(given)
    before = invite(boss, acme, email, role="customer_admin")
    old = given.person("customer_admin", acme["id"], email=email)
    boss.delete(path(acme, f"/{before['id']}"))

    after = invite(boss, acme, email, role="customer_user")

    assert after["id"] != before["id"] and after["status"] == "invited"
    problem(old.http.get("/api/me"), 401)  # it says customer_admin, which they are no more
    assert given.person("customer_user", acme["id"], email=email).id == after["id"]
    problem(old.http.get("/api/me"), 401)


def test_another_customers_users_are_404_like_those_that_are_not_there(given: Given, acme: Json, boss: Person) -> None:
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
    # by way of one's own path neither
    problem(boss.http.delete(path(acme, f"/{theirs['id']}")), 404)
    problem(boss.http.post(path(acme, "/resend-invite"), json={"userId": theirs["id"]}), 404)
    problem(boss.http.post(path(acme, "/resend-invite"), json={"email": theirs["email"]}), 404)
    assert [item["id"] for item in firm.get(path(other))["items"]] == [theirs["id"]]


def test_a_customers_user_may_not_see_to_users(given: Given, acme: Json, boss: Person) -> None:
    user = given.person("customer_user", acme["id"])
    for answer in (
        user.http.get(path(acme)),
        user.http.post(path(acme, "/invite"), json={"email": address(given), "name": "Jo"}),
        user.http.post(path(acme, "/resend-invite"), json={"userId": boss.id}),
        user.http.delete(path(acme, f"/{boss.id}")),
    ):
        problem(answer, 403)
    boss.get("/api/me")


def test_the_firms_own_people_are_nobodys_to_remove(given: Given, acme: Json) -> None:
    firm, by = given.people(2)
    problem(by.http.delete(path(acme, f"/{firm.id}")), 404)
    promoted = given.person("customer_user", acme["id"])
    given.person("internal_user", email=promoted.email)
    problem(by.http.delete(path(acme, f"/{promoted.id}")), 404)


def test_an_invitation_is_sent_again_once_a_minute(given: Given, stint: Installation, acme: Json, boss: Person) -> None:
    invited = invite(boss, acme, address(given))

    again = boss.post(path(acme, "/resend-invite"), {"userId": invited["id"]}, status=202)
    refused = boss.http.post(path(acme, "/resend-invite"), json={"email": invited["email"].upper()})

    assert again["invitedAt"] > invited["invitedAt"] and again["id"] == invited["id"]
    problem(refused, 429)
    assert 50 <= int(refused.headers["retry-after"]) <= 60
    assert len(mails_to(stint, invited["email"])) == 2


def test_who_has_come_needs_no_invitation(given: Given, acme: Json, boss: Person) -> None:
    user = given.person("customer_user", acme["id"])
    assert "come already" in boss.post(path(acme, "/resend-invite"), {"userId": user.id}, status=409)["detail"]


@pytest.mark.parametrize("body", [{}, {"userId": "00000000-0000-4000-8000-000000000000", "email": "jo@acme.example"}])
def test_one_of_the_two_names_whom_to_write_to(body: Json, acme: Json, boss: Person) -> None:
    problem(boss.http.post(path(acme, "/resend-invite"), json=body), 422)


def test_nobody_mails_the_world(given: Given, stint: Installation, acme: Json, boss: Person) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: boss.http.post(path(acme, "/invite"), json={
            "email": address(given), "name": "Jo"}), range(56)))  # fmt: skip
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {201, 429} and 50 <= statuses.count(201) <= 51
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    invite(given.person(), acme, address(given))  # others still can


def test_nobody_is_written_to_again_and_again_by_removing_them(
    given: Given, stint: Installation, acme: Json, boss: Person
) -> None:
    email = address(given)
    for _ in range(5):
        boss.delete(path(acme, f"/{invite(boss, acme, email)['id']}"))
    invite(boss, acme, email, 429)
    assert len(mails_to(stint, email)) == 5


def test_nobody_is_invited_to_a_deleted_customer(given: Given) -> None:
    firm = given.person()
    customer = given.customer(firm)
    boss = given.person("customer_admin", customer["id"])
    firm.delete(f"/api/customers/{customer['id']}")
    invite(firm, customer, address(given), 404)
    firm.get(path(customer), status=404)
    problem(boss.http.get(path(customer)), 401)


def test_who_comes_first_after_the_customer_was_deleted_is_told_so(given: Given) -> None:
    firm = given.person()
    customer = given.customer(firm)
    firm.delete(f"/api/customers/{customer['id']}")
    late = given.person("customer_user", customer["id"])
    assert "deleted" in problem(late.http.get("/api/tasks"), 401)["detail"]


def test_an_invitation_beside_the_deletion_of_the_customer_lets_nobody_in(given: Given, stint: Installation) -> None:
    firm = given.person()
    for _ in range(10):
        customer, email = given.customer(firm), address(given)
        with ThreadPoolExecutor(2) as pool:
            made = pool.submit(firm.http.post, path(customer, "/invite"), json={"email": email, "name": "Jo"})
            gone = pool.submit(firm.http.delete, f"/api/customers/{customer['id']}")
            assert made.result().status_code in (201, 404) and gone.result().status_code == 204
        assert stint.value("SELECT count(*) FROM users WHERE email = %s AND revoked_at IS NULL", email) == 0


@pytest.mark.parametrize(
    "name", ["Jo\r\nBcc: all@example.com", "Jo\nMiller", "Jo\x00", "Jo\u2028Miller", "", "  ", "x" * 201, "x" * 10_000_000]
)
def test_a_name_that_would_do_harm_is_refused(name: str, given: Given, stint: Installation, acme: Json, boss: Person) -> None:
    email = address(given)
    try:
        answer = boss.http.post(path(acme, "/invite"), json={"email": email, "name": name})
    except httpx.WriteError:  # cut off in the middle of the 10 MB
        answer = None
    assert answer is None or answer.status_code in (400, 413, 422), answer.text
    assert mails_to(stint, email) == []


@pytest.mark.parametrize("name", ["Ζωή 🦊👩‍🚒", "محمد علي", "שרה", "O'Neil <b>", "张伟", "Jo %s {name}"])
@pytest.mark.parametrize("local", ["jo", '"jo miller"', "jo+stint", "o'neil"])
def test_names_and_addresses_of_all_kinds_arrive(
    name: str, local: str, given: Given, stint: Installation, acme: Json, boss: Person
) -> None:
    email = f"{local}@{given.new_id()}.example"
    invited = invite(boss, acme, email, name=name)
    assert (invited["email"], invited["name"]) == (email, name)
    [mail] = mails_to(stint, email)
    assert mail["paragraphs"][0] == f"Hello {name},"


@pytest.mark.parametrize("email", [
    "jo", "jo@", "@acme.example", "a@b@c.example", "jo@acme.example\r\nBcc: x@y.example", "jo@acme.example, x@y.example",
    "Jo <jo@acme.example>", "jö@acme.example", "x" * 400 + "@acme.example",
])  # fmt: skip
def test_what_is_no_address_is_422(email: str, acme: Json, boss: Person) -> None:
    problem(boss.http.post(path(acme, "/invite"), json={"email": email, "name": "Jo"}), 422)


@pytest.mark.parametrize("role", ["internal_admin", "internal_user", "", None, "admin", "customer_owner", ["customer_admin"]])
def test_nobody_is_invited_to_be_anything_else(role: Any, given: Given, acme: Json, boss: Person) -> None:
    problem(boss.http.post(path(acme, "/invite"), json={"email": address(given), "name": "Jo", "role": role}), 422)
