"""Personal data, by pattern and checksum: counted by kind, and never printed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmos.data.checks.finding import CheckFinding
    from llmos.data.checks.subject import Subject

KIND = "personal_data"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A kind of personal data: where it may stand, and whether what stands there is one."""

    name: str
    pattern: re.Pattern[str]
    is_valid: Callable[[str], bool] = lambda text: True


def has_luhn(text: str) -> bool:
    """ISO/IEC 7812-1: the check digit of cards; of 13 to 19 digits, not all the same."""
    digits = [int(one) for one in text if one.isdigit()]
    if not 13 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    doubled = [sum(divmod(2 * one, 10)) for one in digits[-2::-2]]
    return (sum(doubled) + sum(digits[::-2])) % 10 == 0


def is_iban(text: str) -> bool:
    """ISO 13616: the remainder by 97 is 1."""
    bare = re.sub(r"\s", "", text).upper()
    if not 15 <= len(bare) <= 34:
        return False
    return int("".join(str(int(one, 36)) for one in bare[4:] + bare[:4])) % 97 == 1


def is_chinese_id(text: str) -> bool:
    """GB 11643-1999: the check digit of 18 signs, and a date of birth."""
    weights = [2 ** (17 - i) % 11 for i in range(17)]
    total = sum(int(one) * weight for one, weight in zip(text[:17], weights, strict=True))
    month, day = int(text[10:12]), int(text[12:14])
    return "10X98765432"[total % 11] == text[17].upper() and 1 <= month <= 12 and 1 <= day <= 31


def is_spanish_id(text: str) -> bool:
    """DNI and NIE: the letter is the number's remainder by 23."""
    bare = text.upper().replace("-", "")
    number = int(bare[:-1].translate(str.maketrans("XYZ", "012")))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[number % 23] == bare[-1]


def is_italian_code(text: str) -> bool:
    """Codice fiscale: the last letter is a sum over the others, which weigh by place."""
    odd = dict(zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", _ODD, strict=True))
    bare = text.upper()
    total = sum(
        odd[one] if i % 2 == 0 else (int(one) if one.isdigit() else ord(one) - 65) for i, one in enumerate(bare[:15])
    )
    return chr(65 + total % 26) == bare[15]


def is_french_number(text: str) -> bool:
    """NIR: the key is 97 less the number's remainder by 97."""
    bare = re.sub(r"\s", "", text)
    return 97 - int(bare[:13]) % 97 == int(bare[13:]) and 1 <= int(bare[3:5]) <= 12


def is_address(text: str) -> bool:
    """RFC 791, RFC 4291: an address of a host; not one of this machine or nowhere."""
    try:
        found = ip_address(text)
    except ValueError:
        return False
    return not (found.is_loopback or found.is_unspecified or found.is_multicast)


def _is_phone(text: str) -> bool:
    digits = [one for one in text if one.isdigit()]
    return 8 <= len(digits) <= 15 and len(set(digits)) > 2


_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10,
        22, 25, 24, 23)  # fmt: skip
ALONE = r"(?<![\w.+-])", r"(?![\w-]|\.\d)"


def _alone(pattern: str) -> re.Pattern[str]:
    return re.compile(f"{ALONE[0]}(?:{pattern}){ALONE[1]}", re.ASCII)


def _between(pattern: str) -> re.Pattern[str]:
    """Between signs that are no ASCII letters and digits: Chinese writes no spaces around numbers."""
    return re.compile(rf"(?<![A-Za-z0-9.])(?:{pattern})(?![A-Za-z0-9]|\.\d)", re.ASCII)


MAIL = r"(?<![\w.+-])[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,4}\.[A-Za-z]{2,24}\b"
ADDRESS = r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4})(?![\w:]|\.\d)"
PHONE = (
    r"\+\d{1,3}(?:[ .()/-]{0,2}\d{1,5}){2,6}|\(0?\d{2,4}\) ?\d{3}[ .-]?\d{3,5}|\d{3}[-.]\d{3}[-.]\d{4}"
    r"|0\d{2,4}[ /-]\d{5,9}"
)
PATTERNS = (
    Pattern("e-mail", re.compile(MAIL)),
    Pattern("IBAN", _alone(r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?"), is_iban),
    Pattern("Chinese id", _between(r"[1-8]\d{5}(?:19|20)\d{2}\d{4}\d{3}[\dXx]"), is_chinese_id),
    Pattern("French id", _alone(r"[12] ?\d{2} ?\d{2} ?\d{2} ?\d{3} ?\d{3} ?\d{2}"), is_french_number),
    Pattern("Italian id", _alone(r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]"), is_italian_code),
    Pattern("Spanish id", _alone(r"(?:\d{8}|[XYZ]\d{7})-?[A-Z]"), is_spanish_id),
    Pattern("card", _between(r"\d(?:[ -]?\d){12,18}"), has_luhn),
    Pattern("US social security number", _alone(r"(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}")),
    Pattern("IP address", re.compile(ADDRESS, re.ASCII), is_address),
    Pattern("Chinese mobile number", _between(r"(?:\+?86[ -]?)?1[3-9]\d(?:[ -]?\d{4}){2}")),
    Pattern("phone number", _alone(PHONE), _is_phone),
)


def spans_in(text: str) -> Iterator[tuple[int, int, str]]:
    """Where personal data stands in a text, and its kind; spans do not overlap, the surest kinds first."""
    if not any(one.isdigit() or one == "@" for one in text):
        return
    taken: list[tuple[int, int]] = []
    for kind in PATTERNS:
        for match in kind.pattern.finditer(text):
            start, end = match.span()
            if all(end <= a or start >= b for a, b in taken) and kind.is_valid(match[0]):
                taken.append((start, end))
                yield start, end, kind.name


def mask(text: str) -> str:
    """The text with its personal data replaced by the kind."""
    for start, end, name in sorted(spans_in(text), reverse=True):
        text = f"{text[:start]}[{name}]{text[end:]}"
    return text


def find(subject: Subject) -> Iterator[CheckFinding]:
    """Rows with personal data, counted by kind."""
    from llmos.data.checks.finding import CheckFinding, Severity
    from llmos.data.checks.subject import texts_of

    counts: Counter[str] = Counter()
    ids: list[str] = []
    for _, row in subject.rows:
        if subject.is_kept(KIND, row):
            continue
        names = {name for text in texts_of(row) for _, _, name in spans_in(text)}
        counts.update(names)
        ids += [row.id] if names else []
    if ids:
        said = ", ".join(f"{name}: {count:,}" for name, count in counts.most_common())
        sentence = (
            f"{len(ids):,} rows have personal data (rows by kind: {said}). A model may repeat what it has learned"
        )
        yield CheckFinding(KIND, Severity.WARNING, sentence, tuple(ids), dict(counts.most_common()), fixes=("drop",))
