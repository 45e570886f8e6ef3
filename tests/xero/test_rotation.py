"""The key that encrypts what is secret is changed while everything runs."""

import threading

import pytest

from schemas.sealing import WrongSecretKey, seal, unseal
from tests.firm_with_xero import Firm
from tests.given import Given
from tests.installation import SECRET_KEY, Installation
from tests.sandbox import XeroSandbox
from tests.sizes import FULL

NEW_KEY = "another secret, only for a test".replace(",", ":")
KEPT = "SELECT access_token, refresh_token FROM xero_connection"


@pytest.mark.slow(seconds=60)
def test_rotating_under_traffic_breaks_nothing(given_own: Given, xero: XeroSandbox) -> None:
    given, stint = given_own, given_own.stint.start().wait_until_ready()
    firm = Firm.new(stint, xero, given)
    firm.comes_to(firm.approved(), "synced")
    bills = given.many_bills(firm.by, firm.task, 60 if FULL else 25, first="2025-01-01")
    over, answers = threading.Event(), []

    def traffic() -> None:
        for bill_id in bills:
            answers.append(firm.admin.http.patch(f"/api/time-bills/{bill_id}", json={"status": "approved"}).status_code)
            xero.expires_tokens()  # so that tokens are written all the time
            over.wait(0.1)

    for keys in (f"{SECRET_KEY},{NEW_KEY}", f"{NEW_KEY},{SECRET_KEY}"):
        restart(stint, keys)
    before, sold = stint.rows(KEPT)[0], stint.value("SELECT private_pem FROM signing_keys")
    sending = threading.Thread(target=traffic)
    sending.start()
    for _ in range(3):
        rotated = stint.command("rotate-keys")
        assert rotated.returncode == 0, rotated.stderr
    sending.join()
    firm.settled(seconds=90)

    assert set(answers) == {200}
    kept = stint.rows(KEPT)[0]
    assert set(kept).isdisjoint(before) and stint.value("SELECT private_pem FROM signing_keys") != sold
    restart(stint, NEW_KEY)  # the old one is not needed any more
    given.person()
    firm.comes_to(firm.approved(day="2026-04-01"), "synced", seconds=40)
    firm.check()


def restart(stint: Installation, secret_key: str) -> None:
    stint.stop()
    stint.environment["SECRET_KEY"] = secret_key
    stint.start().wait_until_ready()


def test_a_sealed_text_opens_at_its_place_and_under_its_key_only() -> None:
    sealed = seal("a token", secret_key=SECRET_KEY, place="here")
    assert unseal(sealed, secret_key=f"{NEW_KEY},{SECRET_KEY}", place="here") == "a token"
    for secret_key, place in ((SECRET_KEY, "elsewhere"), (NEW_KEY, "here")):
        try:
            unseal(sealed, secret_key=secret_key, place=place)
        except WrongSecretKey as error:
            assert "a token" not in str(error) and secret_key not in str(error)
        else:
            raise AssertionError("it opened")
    assert seal("a token", secret_key=SECRET_KEY, place="here") != sealed
