# ruff: noqa: RUF001  Characters that look alike are what this is about.
"""The one rule of both halves for what an e-mail address is, and how it is stored, found and shown."""

import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from project.addresses import LONGEST, InvalidAddress, looked_up, normal_form, searched, shown

PARTS = st.sampled_from([
    "", "a", "Ada", "b.c", ".", "..", "-", "_", "+", "'", "<", ">", "@", " ", '"q r"', '"q"', "(comment)", "\\", ",",
    "%", "é", "e\u0301", "ß", "ς", "Σ", "İ", "我", "xn--", "xn--bcher-kva", "bücher", "example", "EXAMPLE", "com",
    ".com", ".test", "localhost", "1", "-a", "a-", "[127.0.0.1]", "postmaster", "x" * 60, "y" * 64, "\n", "\t", "\x00",
    "\u200b", "\ufb01", "\uff0e", "\uff20", "ａ", "홍", "а", "\u034f", "\ufe0f", "\u3164", "\u0307", "\ud800",
])  # fmt: skip
ADDRESSES = st.one_of(
    st.emails(),
    st.builds("{}@{}".format, st.lists(PARTS, max_size=4).map("".join), st.lists(PARTS, max_size=5).map("".join)),
    st.builds("{}@{}".format, st.text(max_size=20), st.sampled_from(["example.com", "한국.example", "bücher.de"])),
    st.text(max_size=40),
)


def form_or_none(value: str) -> str | None:
    try:
        return normal_form(value)
    except InvalidAddress:
        return None


@given(ADDRESSES)
@example("Ada@Example.COM")
@example("İ@example.com")
@example("ΝΙΚΟΣ@example.gr")
def test_normal_form__any_text__is_a_fixed_point_that_both_databases_take(value: str) -> None:
    found = form_or_none(value)

    assert looked_up(looked_up(value)) == looked_up(value)
    if found is None:
        return
    local, _, domain = found.rpartition("@")
    assert normal_form(found) == looked_up(value) == found
    assert normal_form(shown(found)) == found, "what is shown can be typed"
    assert domain.isascii()
    assert domain == domain.lower()
    assert local == local.lower(), "the check constraint compares with lower()"
    assert unicodedata.is_normalized("NFKC", local)
    assert len(found) <= LONGEST


SPELLINGS = {
    "case": "ALICE@Example.COM",
    "around it": " \t alice@example.com\u3000\n",
    "fullwidth": "ａｌｉｃｅ@example.com",
    "fullwidth at-sign and dot": "alice＠example．com",
    "ideographic dot": "alice@example。com",
    "mathematical": "𝓪𝗅𝗂𝚌𝐞@example.com",
    "circled": "ⓐⓛⓘⓒⓔ@example.com",
    "turkish capital": "ALİCE@example.com",
    "second dot": "ali\u0307ce@example.com",
    "trailing dot": "alice@example.com.",
    "zero width": "ali\u200bce@example.com",
    "word joiner": "ali\u2060ce@example.com",
    "byte order mark": "\ufeffalice@example.com",
    "soft hyphen": "ali\u00adce@example.com",
    "grapheme joiner": "ali\u034fce@example.com",
    "variation selector": "ali\ufe0fce@example.com",
    "tag": "ali\U000e0061ce@example.com",
    "variation selector supplement": "ali\U000e0100ce@example.com",
    "hangul filler": "ali\u3164ce@example.com",
    "khmer vowel": "ali\u17b4ce@example.com",
    "zero width in the domain": "alice@exa\u200dmple.com",
    "variation selector in the domain": "alice@exa\ufe0fmple.com",
    "cyrillic a": "аlice@example.com",
    "greek iota": "alιce@example.com",
    "cyrillic in the domain": "alice@exаmple.com",
    "fullwidth in the domain": "alice@ｅxample.com",
    "hebrew point": "a\u05b0lice@example.com",
    "arabic vowel": "alic\u064fe@example.com",
    "musical mark": "alice\U0001d167@example.com",
    "letter without a name": "alice\U00017000@example.com",
    "arabic-indic digit": "alice١@example.com",
    "right to left": "\u202eecila@example.com",
    "name": "Alice <alice@example.com>",
    "angle brackets": "<alice@example.com>",
    "quoted": '"alice"@example.com',
    "comment": "alice(x)@example.com",
    "curly apostrophe": "o’neil@example.com",
    "hyphen": "al\u2010ice@example.com",
    "mailto": "mailto:alice@example.com",
    "source route": "@example.org:alice@example.com",
}


@pytest.mark.attack
@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_spelling__looks_like_another_address__is_that_address_or_refused(spelling: str) -> None:
    found = form_or_none(spelling)

    assert found in {"alice@example.com", None}


INTERNATIONAL = {
    "hong@한국.example": "hong@xn--3e0b707e.example",
    "HONG@XN--3E0B707E.example": "hong@xn--3e0b707e.example",
    "홍길동@example.com": "홍길동@example.com",
    unicodedata.normalize("NFD", "홍길동@example.com"): "홍길동@example.com",
    "홍길동@한국.example": "홍길동@xn--3e0b707e.example",
    "josé@bücher.example": "josé@xn--bcher-kva.example",
    "JOSE\u0301@B\u00dcCHER.example": "josé@xn--bcher-kva.example",
    "straße@straße.example": "straße@xn--strae-oqa.example",
    "иван@пример.example": "иван@xn--e1afmkfd.example",
    "сара@пример.рф": "сара@xn--e1afmkfd.xn--p1ai",
    "たろうa1々ー@例え.example": "たろうa1々ー@xn--r8jz45g.example",
    "नमस्ते@example.com": "नमस्ते@example.com",
    "١٢٣@example.com": "١٢٣@example.com",
    "ada@corp.local": "ada@corp.local",
    "ada@printer.test": "ada@printer.test",
    "x@y.invalid": "x@y.invalid",
    "o'neil+tag@example.com": "o'neil+tag@example.com",
}


@pytest.mark.parametrize(("typed", "stored"), INTERNATIONAL.items())
def test_address__international_or_internal__has_one_stored_form(typed: str, stored: str) -> None:
    assert normal_form(typed) == stored


SIGMAS = [
    "νικος.παππας@example.com",
    "ΝΙΚΟΣ.ΠΑΠΠΑΣ@example.com",
    "νικοσ.παππασ@example.com",
    "νικοϲ.παππας@example.com",
]


@pytest.mark.attack
@pytest.mark.parametrize("spelling", SIGMAS)
def test_spelling__any_sigma__is_the_sigma_of_its_place(spelling: str) -> None:
    assert normal_form(spelling) == SIGMAS[0]
    assert normal_form(spelling.replace("@", "1@")) == SIGMAS[0].replace("@", "1@")


@pytest.mark.parametrize("typed", ["u@ΝΙΚΟΣ.ΕΛΣ", "u@νικοσ.ελσ"])
def test_domain__capital_sigma__is_a_medial_one_as_browsers_map_it(typed: str) -> None:
    assert shown(normal_form(typed)) == "u@νικοσ.ελσ"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "nobody",
        "@",
        "a@",
        "@b.example",
        "a@localhost",
        "a@b@example.com",
        "a..b@example.com",
        ".a@example.com",
        "a b@example.com",
        "a@exam ple.com",
        "a@[127.0.0.1]",
        "a@127.0.0.1",
        "a@-b.example",
        "a@xn--zzzzzz.example",
        "a\x00@example.com",
        "a\n@example.com",
        "\ud800@example.com",
        f"{'a' * 64}@{'b' * 63}.{'c' * 63}.{'d' * 63}.com",
        "a" * 243 + "@example.com",
        "홍" * 300 + "@example.com",
        "aиван@example.com",
        "асе@example.com",
        "alice@раураl.example",
        "alice@аррӏе.com",
        "αικν@example.com",
        "😀@example.com",
    ],
)
def test_address__none_or_a_deceiving_one__is_refused_and_still_looked_up(value: str) -> None:
    with pytest.raises(InvalidAddress):
        normal_form(value)
    assert looked_up(looked_up(value)) == looked_up(value)


def test_shown__domain_that_could_deceive__stays_encoded() -> None:
    assert shown("hong@xn--3e0b707e.example") == "hong@한국.example"
    assert shown("a@xn--80ak6aa92e.com") == "a@xn--80ak6aa92e.com", "Cyrillic letters that look like apple"
    assert shown("a@xn--zzzzzz.com") == "a@xn--zzzzzz.com"
    assert shown("plain@example.com") == "plain@example.com"
    assert shown("") == ""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Ada", "Ada"),
        ("ADA@Exa", "ada@exa"),
        ("hong@한국", "hong@xn--3e0b707e"),
        ("hong@한국.exa", "hong@xn--3e0b707e.exa"),
        ("hong@한국.", "hong@xn--3e0b707e."),
        ("홍길동@", "홍길동@"),
        ("ａda@", "ada@"),
    ],
)
def test_searched__beginning_of_an_address__is_as_it_is_stored(text: str, found: str) -> None:
    assert searched(text) == found


@pytest.mark.attack
@pytest.mark.parametrize(
    "text",
    [
        "홍" * 5_000_000,
        "ﷺ" * 5_000_000,
        " " * 5_000_000 + "a@b.example",
        "a@" + "한." * 2_000_000,
        "\u0301" * 5_000_000,
    ],
)
def test_address__of_megabytes__costs_no_normalization(text: str) -> None:
    began = time.process_time()
    looked_up(text)
    searched(text)

    assert time.process_time() - began < 1, "a generous bound; to normalize it takes longer"


def test_rows__of_an_import__cost_little_each() -> None:
    rows = [f"user{number}@example.com" for number in range(10_000)]
    began = time.process_time()
    assert [normal_form(row) for row in rows] == rows

    assert time.process_time() - began < 1, "a generous bound: email-validator takes several times as long"
