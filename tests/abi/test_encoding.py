"""Encodings: Unicode is known by its structure, an older encoding by the letters of a language."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.encoding import codec_of, decode_text, detect_encoding

TEXTS = {
    "French": (
        "Le café fermé était très agréable, où l’été passait à côté de la forêt. Ça",
        ["cp1252", "mac-roman"],
    ),
    "German": ("Größe, Übung, schön und für Äpfel – „gut“ gesagt. Straße öffnen", ["cp1252"]),
    "Spanish": ("El niño comió piñas. ¿Cómo estás? ¡Qué día! La canción española", ["cp1252"]),
    "Portuguese": ("Não há razão; a ação é ótima. Você está aqui, coração e mãe", ["cp1252"]),
    "Swedish": ("Vi åkte till sjön på östra sidan, är det så här? Köp smörgås", ["cp1252"]),
    "Polish": ("Zażółć gęślą jaźń. Łódź płynie, dziękuję bardzo. Wszystkie żółwie śpią", ["cp1250"]),
    "Czech": ("Příliš žluťoučký kůň úpěl ďábelské ódy. Děkuji, to je můj dům", ["cp1250"]),
    "Turkish": ("Güzel bir gün, çok teşekkür ederim. Ağaçlar yeşil, ışık söndü", ["cp1254"]),
    "Russian": ("Привет, как дела? Я хотел бы вернуть товар, потому что он не работает", ["cp1251", "koi8-r"]),
    "Greek": ("Καλημέρα, θα ήθελα να επιστρέψω το προϊόν γιατί δεν λειτουργεί", ["cp1253"]),
    "Hebrew": ("שלום, אני רוצה להחזיר את המוצר כי הוא לא עובד בכלל", ["cp1255"]),
    "Arabic": ("مرحبا، أريد إرجاع المنتج لأنه لا يعمل على الإطلاق", ["cp1256"]),
    "Chinese": ("房间很大，服务员态度也不错，就是早餐一般，下次还会来住的", ["gb18030"]),
    "Taiwanese": ("房間很大，服務員態度也不錯，就是早餐一般，下次還會來住的", ["big5", "gb18030"]),
    "Japanese": ("部屋はとても広くて、スタッフの対応も良かったです。また泊まりたい", ["cp932", "euc-jp"]),
    "Korean": ("방이 정말 넓고 직원들도 친절했습니다. 다음에 또 오고 싶은 호텔이에요", ["cp949"]),
    "quotes": ("He said “new” and it’s €5 – fine…", ["cp1252"]),
    "two words": ("un café, l’été", ["cp1252"]),
}
CASES = [(language, codec) for language, (_, codecs) in TEXTS.items() for codec in codecs]
UNICODE = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")


@pytest.mark.parametrize(("language", "codec"), CASES)
def test_a_text_in_an_older_encoding_is_read_as_it_was_written(language: str, codec: str) -> None:
    text = f"text,label\na plain line,a\n{TEXTS[language][0]},b\n"
    decoded = decode_text(text.encode(codec))
    assert decoded is not None
    assert decoded[0] == text
    assert decoded[1].words


@pytest.mark.parametrize("codec", UNICODE)
@pytest.mark.parametrize("language", TEXTS)
def test_unicode_is_known_in_every_form(language: str, codec: str) -> None:
    text = f"text,label\n{TEXTS[language][0]},b\n"
    assert detect_encoding([text.encode(codec)]).codec == codec
    assert decode_text(text.encode(codec)) == (text, detect_encoding([text.encode(codec)]))


@given(st.text(), st.integers(1, 7))
def test_what_is_utf8_is_taken_for_nothing_else_however_it_is_cut(text: str, size: int) -> None:
    data = text.replace("\0", "").encode()
    assert detect_encoding([data[i : i + size] for i in range(0, len(data), size)]).is_utf8


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_left_open_without_an_error(data: bytes) -> None:
    decoded = decode_text(data)
    assert decoded is None or isinstance(decoded[0], str)


def test_names_of_encodings_are_those_of_python_and_iconv() -> None:
    assert codec_of("WINDOWS-1252") == codec_of("cp1252") == codec_of("latin1") == "cp1252"
    assert codec_of("martian") is None
    assert codec_of("base64") is None
