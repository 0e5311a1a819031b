"""How sentences name the content of a file: its first bytes, and the key that it lacks."""

import pytest

from alexnet.errors import quoted_bytes, reason_of


@pytest.mark.parametrize(("data", "text"), [
    (b"<html>\n <body>", "'<html> <body>'"), (b"hello", "'hello'"), (b"", "''"), (b"\x89PNG", "the bytes 89 50 4e 47"),
    (b"\0\0\x08\x03", "the bytes 00 00 08 03")])
def test_bytes_are_text_if_they_are_printable_and_else_hexadecimal(data, text):
    assert quoted_bytes(data) == text


def test_a_missing_key_is_named_and_any_other_error_has_its_own_words():
    assert reason_of(KeyError("arch")) == "it has no 'arch'"
    assert reason_of(ValueError("it has format 99")) == "it has format 99"
