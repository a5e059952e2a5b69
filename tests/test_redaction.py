"""What people may see of a body: fields are masked by their names, however deep; and so is what repeats them."""

from __future__ import annotations

import pytest

from tape_celery.errors import SettingsError
from tape_celery.redaction import MASK, Redaction, cut_out
from tape_celery.settings import Settings, settings_from


def test_fields_are_masked_by_their_names_at_any_depth() -> None:
    """Large or small letters, in lists and objects, whatever the value is; other fields stay."""
    names = ("Authorization", "api_token", "client_secret", "passWord", "Set-Cookie", "api_key", "PAN", "cvv2", "IBAN")
    body = {"rows": [dict.fromkeys(names, value) for value in ("text", 7, ["x"], {"y": 1}, None)], "amount": 100}
    masked = Redaction().mask(body)
    assert masked == {"rows": [dict.fromkeys(names, MASK)] * 5, "amount": 100}
    assert body["rows"][0]["PAN"] == "text"


def test_what_is_masked_is_cut_out_of_words_around_it() -> None:
    """Texts and numbers, at any depth below such a name; not what is too short to mean anything."""
    redaction = Redaction()
    secrets = redaction.secrets({"token": {"a": ["abcd", "abcdef", "x"], "b": 12345, "c": True}, "note": "seen"})
    assert secrets == {"abcd", "abcdef", "12345"}
    assert cut_out(secrets, "12345 is no abcdef, x was seen") == f"{MASK} is no {MASK}, x was seen"


def test_a_setting_says_which_names() -> None:
    """In the place of ours; an empty word, which is in every name, is a mistake."""
    masked = Redaction(settings_from({"redact": "Account, iban"}).redact).mask({"the_account": 1, "token": 2})
    assert masked == {"the_account": MASK, "token": 2}
    assert Redaction(()).mask({"token": 2}) == {"token": 2}
    with pytest.raises(SettingsError, match="tape_redact must be words"):
        Settings(redact=("token", " "))
