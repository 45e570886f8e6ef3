"""What is masked before people see a message: secrets by their name, by their form, and this installation's own."""

from typing import Any

import pytest
from pydantic import SecretStr

from schemas.masking import MASK, Redactor, leftover_mask
from schemas.settings import Settings

REDACTOR = Redactor(
    Settings(
        database_url="postgresql://stint:planted%2Fpassword@db.example.com/stint?sslpassword=Planted-Key-Word",
        amqp_url="amqp://stint:planted-one@mq1/, amqps://stint:planted%2Dtwo@mq2/",
        secret_key=SecretStr("planted-first-key,planted-second-key"),
        smtp_url=SecretStr("smtp://mailer:planted-mail-word@mail.example.com"),
    )
)


@pytest.mark.parametrize(
    "text",
    [
        "planted-first-key", "planted-second-key", "planted%2Fpassword", "planted/password", "planted-mail-word",
        "Planted-Key-Word", "planted-key-word", "planted-one", "planted%2Dtwo", "planted-two",
        "Bearer planted.token.of.somebody", "https://jo:planted@example.com/", "xoxb-1234567890-planted",
        "https://hooks.slack.com/commands/T1/planted", "eyJhbGciOiJI.planted0.planted1", "password=planted",
        '"api_key": "planted words"', "client_secret: 'planted'", "X-Refresh-Token=planted;",
        "-----BEGIN PRIVATE KEY-----\nplanted\n-----END PRIVATE KEY-----",
        "PASSWD=planted", "Passphrase: planted", "pwd=planted", "Credentials=planted", "credential=planted", "Cookie: planted",
        "SECRET=planted", "signature=planted", "PRIVATE-KEY=planted", "private_key=planted", "privateKey=planted",
        "api-key=planted", "APIKEY=planted", "Basic planted0000", "BEARER planted0000", "xapp-1-planted00",
        "https://hooks.slack-gov.com/x/planted", "é password=planted", "pa\u017f\u017fword=planted", "to\u212aen=planted",
    ],
)  # fmt: skip
def test_a_secret_in_a_text_is_masked_and_what_surrounds_it_stays(text: str) -> None:
    shown = REDACTOR.text(f"before {text} after")
    assert "planted" not in shown and MASK in shown
    assert shown.startswith("before ") and shown.endswith(" after")


@pytest.mark.parametrize(
    "name", ["password", "smtpPassword", "apiKey", "api_key", "accessToken", "code", "signInCode", "Authorization", "cookie"]
)
def test_the_value_of_a_field_with_a_secrets_name_is_masked_whatever_it_is(name: str) -> None:
    for value in ("planted", 123456, ["planted", {"deeper": "planted"}]):
        shown = str(REDACTOR.json({"a": {name: value}, "name": "Jo"}))
        assert "123456" not in shown and ("planted" not in shown or isinstance(value, list)) and "Jo" in shown
    assert REDACTOR.json({name: ["planted", "planted"]}) == {name: [MASK, MASK]}


@pytest.mark.parametrize("value", [{"title": "Servers", "zipcode": "8001", "count": 3}, ["a", None, True], "no more than that"])
def test_anything_else_is_shown(value: Any) -> None:
    assert REDACTOR.json(value) == value


def test_an_edit_keeps_the_secrets_that_it_was_shown_without() -> None:
    original = {"password": "planted", "url": "https://jo:planted@example.com/", "items": [{"token": "planted"}], "name": "Jo"}
    shown = REDACTOR.json(original)
    assert "planted" not in str(shown)
    edited = shown | {"name": "Joe"}
    assert REDACTOR.restore(edited, original) == original | {"name": "Joe"}
    assert leftover_mask(REDACTOR.restore(edited, original), original) is None
    assert leftover_mask(REDACTOR.restore({"note": f"a {MASK} b"}, original), original) == "body.note"
