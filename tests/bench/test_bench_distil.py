"""The rows of the distillation bench: all parts are read back, drawn by the seed, and share no sentence."""

from __future__ import annotations

from pathlib import Path

from bench.data import conll
from bench.distil import write_files


def test_the_parts_are_drawn_once_and_do_not_overlap(tmp_path: Path) -> None:
    source = tmp_path / "conll2003"
    source.mkdir()
    for name, start in (("eng.train", 0), ("eng.testa", 100), ("eng.testb", 200)):
        sentences = [f"word{i} NN I-NP O\nEve NNP I-NP I-PER" for i in range(start, start + 12)]
        (source / name).write_text("-DOCSTART- -X- O O\n\n" + "\n\n".join(sentences) + "\n")
    files = write_files(source, tmp_path / "out", 4, is_full=False)
    train, bare = (conll(one) for one in (files.train, files.unlabelled))
    assert (len(train), len(bare), len(conll(files.test)), len(conll(files.validation))) == (4, 4, 12, 12)
    first = {words[0] for words, _ in train}
    assert not first & {words[0] for words, _ in bare}
    assert train[0][1] == ["O", "B-PER"]
    again = write_files(source, tmp_path / "again", 4, is_full=False)
    assert again.train.read_text() == files.train.read_text()
    assert "unlabelled" not in files.of(taught=False)
    assert files.of(taught=True)["unlabelled"] == str(files.unlabelled)
