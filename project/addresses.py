"""E-mail addresses: the one rule of both halves for what an address is, and how it is stored, found and shown.

An address has one stored spelling, its normal form (docs/decisions/0020-addresses.md):

- the local part in NFKC and lower case (UTS 39, section 3.3, asks for NFKC), so that fullwidth letters are plain ones
  and a Greek sigma is the one that its place in the word asks for; and of letters, marks and digits beyond ASCII only
  (RFC 8264, section 4.2), none of them invisible;
- the domain in A-labels, by IDNA 2008 with the non-transitional mapping of UTS 46.

Whatever is stored, looked up or counted goes through ``looked_up``, so that no spelling can reach an account and be
counted as another. This module knows neither Django nor FastAPI.
"""

import re
import unicodedata
from functools import lru_cache

import email_validator

LONGEST = 254
"""Characters of a normal form (RFC 5321, section 4.5.3.1.3, without the angle brackets)."""
LONGEST_TYPED = 4 * LONGEST
"""Characters that are worth a normalization: NFKC makes one character of a few at most."""

email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()
"""``ada@corp.local`` has mail at the company that runs this, and the admin has always taken it (a documented list)."""

_is_plain = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*", re.ASCII)
"""A dot-atom (RFC 5322, section 3.2.3) in lower case."""

_TOGETHER = (
    frozenset({"LATIN", "CJK", "HIRAGANA", "KATAKANA"}),
    frozenset({"LATIN", "CJK", "BOPOMOFO"}),
    frozenset({"LATIN", "CJK", "HANGUL"}),
)
"""Scripts that one word may mix (UTS 39, section 5.2, "highly restrictive")."""
_LIKE_LATIN = frozenset("аеорсухѕіјһӏԁԛԝѵԍъьҽпгѡ" + "αικνρυωηοτ")
"""Letters that look like Latin ones: browsers show a domain label of nothing else in its encoded form."""
_is_invisible = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
).search
"""Letters and marks that are drawn as nothing (Default_Ignorable_Code_Point); email-validator refuses the others."""
_second_dot = re.compile("(?<=[ij])\u0307+")
_CAPITAL_SIGMA, _SIGMA, _FINAL_SIGMA = "\u03a3", "\u03c3", "\u03c2"
_last_sigma = re.compile(rf"(?<=[^\W\d_]){_SIGMA}(?![^\W\d_])")


class InvalidAddress(ValueError):
    """It is no e-mail address, or one that could pass for another; the message says why."""


def normal_form(value: str) -> str:
    """Returns the one stored spelling of an address.

    Raises:
        InvalidAddress: it is no address, or mixes scripts so that it could pass for another.
    """
    text = _folded(value)
    local, at, domain = text.rpartition("@")
    if not at:
        raise InvalidAddress("An email address must have an @-sign.")
    encoded, shown_domain = _domain(domain)
    if not _is_plain.fullmatch(local):
        _check_local_part(local, has_ascii_domain=shown_domain.isascii())
    if len(local) + 1 + len(encoded) > LONGEST:
        raise InvalidAddress(f"The email address is longer than {LONGEST} characters.")
    return f"{local}@{encoded}"


def looked_up(value: str) -> str:
    """Returns the normal form, or for what is no address the spelling in which it would have been stored long ago."""
    try:
        return normal_form(value)
    except InvalidAddress:
        return _folded(value)


def shown(address: str) -> str:
    """Returns a stored address as people read it: its domain in U-labels."""
    if "xn--" not in address:
        return address
    local, _, domain = address.rpartition("@")
    try:
        return f"{local}@{_domain(domain)[1]}"
    except InvalidAddress:  # Its letters could deceive, so that they stay encoded.
        return address


def searched(text: str) -> str:
    """Returns the beginning of an address as it would be stored: each label of its domain that is whole is encoded.

    What has no ``@`` may be the beginning of a name, and stays as it is.
    """
    local, at, domain = _folded(text).rpartition("@")
    if not at or len(text) > LONGEST_TYPED:
        return text
    return f"{local}@{'.'.join(map(_label, domain.split('.')))}"


def _folded(value: str) -> str:
    value = value.strip()
    if value.isascii() or len(value) > LONGEST_TYPED:
        return value.lower()
    # Python's lower case of a capital sigma depends on the letters after it, across dots and marks; IDNA's does not.
    lower = unicodedata.normalize("NFKC", value).replace(_CAPITAL_SIGMA, _SIGMA).lower()
    # Turkish capitals become an i with a second dot above, which no reader sees. Marks may compose anew after that.
    text = unicodedata.normalize("NFKC", _second_dot.sub("", lower)).strip()
    local, at, domain = text.rpartition("@")
    return f"{_last_sigma.sub(_FINAL_SIGMA, local.replace(_FINAL_SIGMA, _SIGMA))}{at}{domain}"


def _domain(domain: str) -> tuple[str, str]:
    """Returns a domain in A-labels and in U-labels. Raises InvalidAddress."""
    if len(domain) > LONGEST:
        raise InvalidAddress("The email address is too long after the @-sign.")
    return _known_domain(domain)


@lru_cache(maxsize=1024)  # Of 254 characters each at most. email-validator takes longer for one than an INSERT.
def _known_domain(domain: str) -> tuple[str, str]:
    found = _validated(f"x@{domain}")
    encoded, decoded = found.ascii_domain, found.domain
    if _validated(f"x@{decoded}").ascii_domain != encoded:
        raise InvalidAddress("The part after the @-sign is no domain name as IDNA writes it.")
    is_ascii_top = decoded.rpartition(".")[2].isascii()
    for label in decoded.split("."):
        _check_scripts(label, has_ascii_around=is_ascii_top)
    return encoded, decoded


def _label(label: str) -> str:
    if label.isascii():
        return label
    try:
        return _domain(f"{label}.example")[0].removesuffix(".example")
    except InvalidAddress:
        return label


def _check_local_part(local: str, *, has_ascii_domain: bool) -> None:
    if len(local) > LONGEST:
        raise InvalidAddress("The email address is too long before the @-sign.")
    if _validated(f"{local}@example.com").local_part != local:
        raise InvalidAddress("The part before the @-sign is not written as it would be stored.")
    if _is_invisible(local) or not all(character.isascii() or _is_letter_like(character) for character in local):
        raise InvalidAddress("The part before the @-sign has a character beyond ASCII that is no letter and no digit.")
    _check_scripts(local, has_ascii_around=has_ascii_domain)


def _is_letter_like(character: str) -> bool:
    return unicodedata.category(character) in {"Ll", "Lo", "Lm", "Mn", "Mc", "Nd", "Nl"}


def _validated(address: str) -> email_validator.ValidatedEmail:
    try:
        return email_validator.validate_email(
            address,
            allow_smtputf8=True,
            allow_empty_local=False,
            allow_quoted_local=False,
            allow_domain_literal=False,
            allow_display_name=False,
            strict=False,
            check_deliverability=False,
            test_environment=False,
            globally_deliverable=True,
        )
    except email_validator.EmailNotValidError as error:
        raise InvalidAddress(str(error)) from None


def _check_scripts(word: str, *, has_ascii_around: bool) -> None:
    """Refuses a local part or a label that passes for another one by letters that look alike."""
    if word.isascii():
        return
    scripts = {script for character in word if (script := _script(character))}
    if len(scripts) > 1 and not any(scripts <= together for together in _TOGETHER):
        raise InvalidAddress("The email address mixes letters of different scripts, which could pass for others.")
    letters = {character for character in word if character.isalpha()}
    if has_ascii_around and letters and letters <= _LIKE_LATIN:
        raise InvalidAddress("The email address could pass for one in Latin letters.")


def _script(character: str) -> str | None:
    """Returns the script of a letter, a digit or a mark, which its Unicode name begins with."""
    if unicodedata.category(character)[0] not in "LNM" or (character.isascii() and not character.isalpha()):
        return None  # ASCII digits and signs go with every script.
    first, _, rest = unicodedata.name(character, "UNKNOWN").partition(" ")
    if first == "COMBINING":
        return None  # So do accents; other marks belong to the script that they are named after.
    name = rest if first == "EXTENDED" else first
    script = name.partition(" ")[0].partition("-")[0]  # ARABIC-INDIC, KATAKANA-HIRAGANA.
    return "CJK" if script == "IDEOGRAPHIC" else script
