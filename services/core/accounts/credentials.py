"""What names and passwords are accepted.

Passwords follow NIST SP 800-63B: any characters, no rules about their kinds, no expiry, normalized by NFKC, and none
that an attacker tries first.
"""

import re
import unicodedata

from services.core.errors import BadRange

NAME_PATTERN = re.compile(r"[a-z0-9._@-]{3,64}")
MIN_PASSWORD_LENGTH, MAX_PASSWORD_LENGTH = 12, 1000
MIN_DISTINCT_CHARACTERS = 5
# What common passwords of this length consist of, beside digits and punctuation at their ends.
COMMON = """
abcdefghijklmnop admin administrator asdfghjkl basketball bitcoin changeit changeme changemenow computer crypto default
dragon ethereum football iloveyou kurs letmein master monkey password passphrase passwort princess qazwsx qazwsxedc
qwerty qwertyuiop qwertyuiopasdfghjkl secret starwars sunshine superman test testing trader trading trustno welcome
whatever zxcvbnm
"""
COMMON_WORDS = frozenset(COMMON.split())
REPEATED = re.compile(r"(.+?)\1+")  # `abcabc`
SEQUENCES = "0123456789" * 4, "9876543210" * 4


def normalize_name(text: str) -> str:
    """Return a person's name as it is stored. Raises BadRange."""
    name = unicodedata.normalize("NFKC", text).casefold()
    if not NAME_PATTERN.fullmatch(name):
        raise BadRange("name: write 3 to 64 letters (a to z), digits, and . _ - @")
    return name


def normalize_password(text: str) -> str:
    """Return a password as it is hashed, so that keyboards that compose characters differently give the same one."""
    return unicodedata.normalize("NFKC", text)


def check_new_password(text: str, name: str) -> str:
    """Return a new password, normalized. Raises BadRange, without the password, for one that is easily guessed."""
    password = normalize_password(text)
    if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        raise BadRange(
            f"password: it has {len(password)} characters; write {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH}"
        )
    if len(set(password)) < MIN_DISTINCT_CHARACTERS:
        raise BadRange(f"password: write at least {MIN_DISTINCT_CHARACTERS} different characters")
    if _is_common(password.casefold(), name):
        raise BadRange("password: it is one of the first that would be guessed; several random words are a good one")
    return password


def _is_common(password: str, name: str) -> bool:
    letters = re.sub(r"[\W_]", "", password)
    if letters and any(letters in sequence for sequence in SEQUENCES):
        return True
    word = _unrepeated(letters.strip("0123456789"))
    names = {re.sub(r"[\W_]", "", each) for each in (name, name.partition("@")[0])}
    return word in COMMON_WORDS or letters in names or word in {each.strip("0123456789") for each in names} - {""}


def _unrepeated(word: str) -> str:
    match = REPEATED.fullmatch(word)
    return match[1] if match else word
