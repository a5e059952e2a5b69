"""What is stored of an upstream's words: fields whose names mean a secret are masked, and nothing else is lost."""

from __future__ import annotations

import time

import pytest

from tape_celery.masking import SECRET_FIELDS, Masks
from tape_celery.redaction import MASK

SECRET = "canary-31c4"


@pytest.mark.parametrize(
    "name",
    [
        *("password", "PASSWORD", "userPassword", "token", "access_token", "accessToken", "accesstoken"),
        *("X-Auth-Token", "client_secret", "clientSecret", "Authorization", "Proxy-Authorization", "Set-Cookie"),
        *("auth", "api_key", "apiKey", "APIKey", "apikey", "X-Api-Key", "x.api.key", "privateKey", "pan", "cvv2"),
        *("IBAN", "token 2", "hmac_key", "hmacKey", "password_hash", "passwordHash", "iban_number", "ibanNumber"),
        *("secret_value", "secretValue", "token_value", "tokenValue", "clientSecretValue"),
    ],
)
def test_a_name_that_means_a_secret_is_masked_however_it_is_spelled(name: str) -> None:
    """Whatever the value is, at any depth; the body itself stays as it was."""
    body = {"rows": [{name: value, "amount": 100} for value in (SECRET, 7, [SECRET], {"y": SECRET}, None)]}
    assert Masks().touch(body)
    assert Masks().fields(body) == {"rows": [{name: MASK, "amount": 100}] * 5}
    assert body["rows"][0][name] == SECRET


@pytest.mark.parametrize(
    "name",
    [
        *("idempotency_key", "business_key", "effect_key", "key", "external_ref", "id", "token_type", "tokens"),
        *("completion_tokens", "span", "timespan", "panic", "author", "authorization_id", "authentic", "keyboard", ""),
        *("secretary", "public_key", "oauth_provider", "cookies_accepted", "status", "iban_country", "42", "é"),
        *("auth_code", "password_changed_at", "value", "number", "hash", "payload_hash", "token_count"),
    ],
)
def test_other_names_keep_their_values(name: str) -> None:
    """Identifiers above all: people and apps find records by them."""
    body = {name: SECRET, "more": [{name: [SECRET, 1, 1.5, True, None]}]}
    assert Masks().fields(body) == body
    assert not Masks().touch(body)


def test_a_connector_has_its_own_list() -> None:
    """In the place of ours, or beside it; an empty one masks nothing."""
    body = {"access_token": SECRET, "account_number": "1", "token": f"token={SECRET}"}
    assert Masks(["account number"]).fields(body) == body | {"account_number": MASK}
    assert Masks((*SECRET_FIELDS, "account_number")).fields(body) == dict.fromkeys(body, MASK)
    for unmasked in (Masks(()).fields, Masks(()).words):
        assert unmasked(body) == body


@pytest.mark.parametrize(
    "text",
    [
        f'{{"error": "bad", "token": "{SECRET}"}}',
        f'{{"detail": {{"deep": [{{"access_token" : "{SECRET}"}}]}}}}',
        f'{{"token": {{"value": "{SECRET}"}}, "more": 1',
        f'{{"token": "a\\"{SECRET}"}}',
        f'{{"token": "{SECRET}',
        f'{{"said": "{{\\"token\\": \\"{SECRET}\\"}}"}}',
        f"{{'token': '{SECRET}'}}",
        f"{{'token': b'{SECRET}', 'x': 1}}",
        f"refused: grant_type=password&password={SECRET}&scope=x",
        f'Digest token="{SECRET}", nonce=1',
        f'"token":"{SECRET}","token":"{SECRET}"',
    ],
)
def test_texts_that_explain_are_masked_too(text: str) -> None:
    """Written as JSON, cut off or inside of other JSON, as Python shows it, or as a form."""
    kept = Masks().words({"body": text})["body"]
    assert SECRET not in kept
    assert MASK in kept


def test_the_rest_of_such_a_text_stays() -> None:
    """So that people know what was wrong."""
    text = f'{{"error": "no such account", "token": "{SECRET}", "id": "w-1"}}'
    assert Masks().text(text) == text.replace(SECRET, MASK)
    for harmless in ("invalid token: expired", "amount=100&key=k-1", '{"token_type": "bearer"}', "a: b = c"):
        assert Masks().text(harmless) == harmless


def test_what_was_masked_is_cut_out_of_the_words_around_it() -> None:
    """An upstream that refuses a token likes to say which one; what is short may be in any word, and stays."""
    error = {"token": SECRET, "cvv": "123", "pan": 4111111111111111, "message": f"{SECRET}, 4111111111111111 of 1234"}
    assert Masks().words(error)["message"] == f"{MASK}, {MASK} of 1234"


def test_what_an_upstream_writes_cannot_make_it_slow() -> None:
    """Of the length that a text of an error has at most, and longer names than anybody has."""
    for hostile in ('"' * 4096, '"token":' * 500, "\\" * 4096, "token=" * 700, "a-" * 2048, '"token":"' + "\\" * 4096):
        began = time.process_time()
        Masks().words({"body": hostile, hostile: {"x": hostile}})
        assert time.process_time() - began < 0.5
