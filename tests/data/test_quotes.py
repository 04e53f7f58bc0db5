"""What a prompt puts in quotes, however it is typed."""

import pytest

from gdro_comfy.data.quotes import quoted


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('a 12" vinyl record with the word "LOVE" on its label', ["LOVE"]),
        ("a 12” vinyl record with the word “LOVE” on its label", ["LOVE"]),
        ('a sign 6\'2" tall that says "EXIT"', ["EXIT"]),
        ('a 27"-wide monitor showing "HELLO"', ["HELLO"]),
        ('a tag "SALE 50"', ["SALE 50"]),
        ('a sign 24"OPEN"', ["OPEN"]),
        ('a sign that says \\"OPEN\\"', ["OPEN"]),
        ('it says "He said "HI" to me"', ['He said "HI" to me']),
        ("it says “He said “HI” to me”", ["He said “HI” to me"]),
        ('a sign that says “OPEN"', ["OPEN"]),
        ('a sign saying"OPEN"and"SHUT"', ["OPEN", "SHUT"]),
        ('"A" and "B", "C"', ["A", "B", "C"]),
        ("ein Schild „OFFEN“, „ZU”", ["OFFEN", "ZU"]),
        ("＂ＯＰＥＮ＂", ["ＯＰＥＮ"]),
        ('a poster: "Line one\\nLine  two"', ["Line one Line two"]),
        ("「営業中」 «ОТКРЫТО» “开门” 『本』", ["営業中", "ОТКРЫТО", "开门", "本"]),
        ('a sign that says "OPEN', []),
        ('""', []),
        ("'OPEN' ''OPEN'' `OPEN`", []),
        ('"', []),
    ],
)
def test_quotes(text, parts):
    assert quoted(text) == parts
