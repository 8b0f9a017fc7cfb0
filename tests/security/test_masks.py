"""Masks: of a credential in a message nothing is left to go on with, and the rest is readable."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_ledger.secrets import REDACTED, scrub

PREFIXES = ("sk-", "sk-proj-", "sk-ant-api03-", "gsk_", "xai-", "hf_", "nvapi-", "AIzaSy", "AKIA")
PLACES = (
    "{}",
    "Incorrect API key provided: {}.",
    "Authorization: Bearer {}",
    "{{'api_key': '{}', 'model': 'm'}}",
    '{{"x-api-key":"{}"}}',
    "https://example.com/v1?key={}&alt=json",
    "https://user:{}@example.com/v1",
    "Cookie: theme=1; session={}",
)
bodies = st.text(string.ascii_uppercase + string.digits, min_size=20, max_size=60)


@given(st.sampled_from(PREFIXES), bodies, st.sampled_from(PLACES))
def test_a_masked_key_shows_nothing_of_its_body(prefix: str, body: str, place: str) -> None:
    """
    Of a key of twenty letters or more, no five of its letters in a row are left in any place.
    """
    left = scrub(place.format(prefix + body))

    assert REDACTED in left
    assert not [at for at in range(len(body) - 4) if body[at : at + 5] in left]
    assert scrub(left) == left


@pytest.mark.parametrize("place", PLACES[1:])
def test_a_key_of_no_known_form(place: str) -> None:
    """
    The place tells what is a credential, where its form does not.
    """
    assert "CANARY" not in scrub(place.format("CANARY.value~of-no/form"))


@pytest.mark.parametrize(
    "text",
    [
        "Rate limit reached for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000",
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens",
        "authorization required",
        "http://127.0.0.1:8000/v1/chat/completions: Connection refused",
        "the task-force asked for a risk-free desk",
    ],
)
def test_ordinary_messages_stay_as_they_are(text: str) -> None:
    """
    A message without a credential reads as it was written.
    """
    assert scrub(text) == text


def test_what_is_known_goes_first() -> None:
    """
    A credential in use is taken out wherever it stands, with anything around it.
    """
    assert scrub("before(q7Wx9Zp2)after", ["q7Wx9Zp2"]) == f"before({REDACTED})after"


@pytest.mark.parametrize(
    "piece",
    ["://", "://a:", "authorization:", "cookie=", "sk-", "bearer ", "password: ", "eyJ", "a"],
)
def test_a_hostile_message_takes_no_time(piece: str) -> None:
    """
    Two hundred thousand letters made to be slow are read in well under a second.
    """
    text = piece * (200_000 // len(piece))
    began = time.process_time()
    scrub(text)

    assert time.process_time() - began < 1.0
