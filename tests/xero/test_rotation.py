"""SECRET_KEY is replaced while everything runs."""

import threading

import pytest

from schemas.encryption import WrongSecretKey, decrypt, encrypt
from tests.support.firm_with_xero import Firm
from tests.support.given import Given
from tests.support.installation import SECRET_KEY, Installation
from tests.support.sizes import FULL
from tests.support.xero_sandbox import XeroSandbox

NEW_KEY = "another secret, only for a test".replace(",", ":")
TOKENS = "SELECT access_token, refresh_token FROM xero_connection"


@pytest.mark.slow
def test_rotating_under_traffic_breaks_nothing(given_own: Given, xero: XeroSandbox) -> None:
    given, stint = given_own, given_own.stint.start().wait_until_ready()
    firm = Firm.new(stint, xero, given)
    firm.wait_for_status(firm.approved(), "synced")
    bills = given.many_bills(firm.by, firm.task, 60 if FULL else 25, first="2025-01-01")
    done, answers = threading.Event(), []

    def traffic() -> None:
        for bill_id in bills:
            answers.append(firm.admin.http.patch(f"/api/time-bills/{bill_id}", json={"status": "approved"}).status_code)
            xero.expire_tokens()  # so that tokens are renewed all the time
            done.wait(0.1)

    for keys in (f"{SECRET_KEY},{NEW_KEY}", f"{NEW_KEY},{SECRET_KEY}"):
        restart(stint, keys)
    before, old_signing_key = stint.rows(TOKENS)[0], stint.value("SELECT private_pem FROM signing_keys")
    sending = threading.Thread(target=traffic)
    sending.start()
    for _ in range(3):
        rotated = stint.command("rotate-keys")
        assert rotated.returncode == 0, rotated.stderr
    sending.join()
    firm.settled(seconds=90)

    assert set(answers) == {200}
    after = stint.rows(TOKENS)[0]
    assert set(after).isdisjoint(before) and stint.value("SELECT private_pem FROM signing_keys") != old_signing_key
    restart(stint, NEW_KEY)  # the old key is not needed any more
    given.person()
    firm.wait_for_status(firm.approved(day="2026-04-01"), "synced", seconds=40)
    firm.check()


def restart(stint: Installation, secret_key: str) -> None:
    stint.stop()
    stint.environment["SECRET_KEY"] = secret_key
    stint.start().wait_until_ready()


def test_a_text_is_decrypted_only_in_its_context_and_with_its_key() -> None:
    encrypted = encrypt("a token", secret_key=SECRET_KEY, context="here")
    assert decrypt(encrypted, secret_key=f"{NEW_KEY},{SECRET_KEY}", context="here") == "a token"
    for secret_key, context in ((SECRET_KEY, "elsewhere"), (NEW_KEY, "here")):
        try:
            decrypt(encrypted, secret_key=secret_key, context=context)
        except WrongSecretKey as error:
            assert "a token" not in str(error) and secret_key not in str(error)
        else:
            raise AssertionError("it was decrypted")
    assert encrypt("a token", secret_key=SECRET_KEY, context="here") != encrypted
