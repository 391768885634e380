"""bundle and unbundle: what they print, what they refuse, and the home that they mean."""

import json

import pytest
from bundle_parts import stocked_home, tiny_wheels

from llmos.cli.main import run_verb
from llmos.kernel.store.store import Store


@pytest.fixture
def llmos(tmp_path, monkeypatch, capfd):
    stocked_home(tmp_path / "home")

    def run(*words, home="home"):
        monkeypatch.setenv("LLMOS_HOME", str(tmp_path / home))
        code = run_verb([str(word) for word in words])
        return code, *capfd.readouterr()

    return run


def test_a_bundle_goes_from_one_home_to_another(llmos, tmp_path):
    code, said, _ = llmos("bundle", tmp_path / "box.tar", "--no-wheels")
    assert (code, "sh box/install.sh" in said) == (0, True)
    code, said, _ = llmos("unbundle", tmp_path / "box.tar", home="new")
    assert (code, "mood:2" in said) == (0, True)
    assert Store(tmp_path / "new").resolve("mood").ref == "mood:2"


def test_as_json_both_print_what_came_of_it_and_nothing_else(llmos, tmp_path):
    words = ("--wheels", tiny_wheels(tmp_path / "wheels"), "--models", "mood:1, other", "--json")
    code, said, noted = llmos("bundle", tmp_path / "box", *words)
    made = json.loads(said)
    assert (code, noted, made["wheels"]) == (0, "", 2)
    assert made["models"] == ["tiny:1", "mood:1", "other:1"]
    assert made["target"]["platform"].startswith("linux")
    code, said, noted = llmos("unbundle", tmp_path / "box", "--json", home="new")
    done = json.loads(said)
    assert (code, noted, done["there"], done["kept"]) == (0, "", [], [])
    assert (done["added"], done["promoted"]) == (made["models"], ["mood:1", "other:1", "tiny:1"])


def test_only_the_wheels_need_no_home(llmos, tmp_path):
    words = ("--no-models", "--wheels", tiny_wheels(tmp_path / "wheels"))
    code, said, _ = llmos("bundle", tmp_path / "box", *words, home="none")
    assert (code, "2 wheels" in said, (tmp_path / "none").exists()) == (0, True, False)
    assert llmos("unbundle", tmp_path / "box", home="none")[0] == 2


@pytest.mark.parametrize(
    "words",
    [
        ("--no-wheels", "--wheels", "x"),
        ("--no-models", "--models", "mood"),
        ("--models", ","),
        ("--models", "moot", "--no-wheels"),
        ("--no-models", "--no-wheels"),
    ],
)
def test_what_does_not_go_together_is_refused_and_leaves_nothing(llmos, tmp_path, words):
    code, _, error = llmos("bundle", tmp_path / "box", *words)
    assert (code, "Traceback" in error, (tmp_path / "box").exists()) == (2, False, False)


def test_an_error_in_json_has_its_code(llmos, tmp_path):
    code, _, error = llmos("unbundle", tmp_path / "nothing", "--json")
    assert (code, json.loads(error)["error"]["code"]) == (2, "not_found")
