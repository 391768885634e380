"""Characters that a tokenizer does not know are counted where they stand."""

from __future__ import annotations

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from llmos.nn.text.unknown_text import UnknownTokens, find_unknown, unknown_note


def tokenizer() -> Tokenizer:
    words = ["[UNK]", "good", "hotel", "##s", "不", "的"]
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(["[UNK]"])
    return made


def test_unknown_characters_are_counted_by_text_and_the_commonest_named():
    found = find_unknown(tokenizer(), "[UNK]", ["good hotels", "不好的 hotel", "好 房 好", "", "ราคา [UNK]"])
    assert found.counts == ((0, 10), (1, 8), (3, 3), (0, 0), (4, 9))
    assert found.examples[0] == "好"
    assert found.share == 8 / 30


def test_a_note_is_made_from_a_tenth_on_and_of_no_tokenizer_without_such_a_token():
    known, unknown = ["good hotels"] * 9, ["好房店"]
    assert unknown_note(find_unknown(tokenizer(), "[UNK]", known + unknown), "minilm:1") == ""
    assert "minilm:1" in unknown_note(find_unknown(tokenizer(), "[UNK]", known + unknown * 5), "minilm:1")
    assert find_unknown(tokenizer(), None, unknown).share == 0


def test_unknown_tokens_are_the_unknown_one_and_parts_of_characters():
    known = {0: b"", 1: b"good", 2: "é".encode(), 3: "é".encode()[:1]}
    tokens = UnknownTokens(0, known.__getitem__)
    assert [tokens.count(ids) for ids in ([], [1, 2], [0, 1, 0], [3, 3, 0], [2])] == [0, 0, 2, 3, 0]
    assert UnknownTokens(None, known.__getitem__).count([0, 3]) == 1
