"""46: keys that we make cannot be guessed from others, and are in the form that they are said to be in."""

from __future__ import annotations

import uuid

from tape_celery.intent import new_key


def test_a_key_is_a_uuid_of_version_7_with_74_random_bits() -> None:
    """In one process and within a few milliseconds, where all that is not random is alike."""
    keys = [uuid.UUID(new_key()) for _ in range(2_000)]
    assert {(key.version, key.variant) for key in keys} == {(7, uuid.RFC_4122)}
    random_bits = [(key.int >> 64 & 0xFFF) << 62 | key.int & (2**62 - 1) for key in keys]
    assert len(set(random_bits)) == len(keys)
    for bit in range(74):
        ones = sum(number >> bit & 1 for number in random_bits)
        assert 800 < ones < 1_200, f"bit {bit} is 1 in {ones} of 2,000"
