"""The pages say what is there: every setting, package and word, and no link leads nowhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from llmos.abi.process import Priority, State
from llmos.abi.task import BUILT_IN
from llmos.config import SETTINGS
from llmos.kernel.programs import built_in

TREE = Path(__file__).parents[2]
DOCS = TREE / "docs"
PACKAGE = TREE / "llmos"
FOLDERS = sorted({file.parent.relative_to(TREE).as_posix() for file in PACKAGE.rglob("*.py")})
WORDS = {
    *BUILT_IN,
    *built_in(),
    *Priority,
    "model",
    "base",
    "adapter",
    "head",
    "task",
    "promoted",
    "gate",
    "dataset",
    "recipe",
}
WORDS |= {"process", "class", "device", "lease", "ledger", "call", "chunk", "event", "effect", "journal", "evidence"}


@pytest.fixture(scope="module")
def architecture():
    return (DOCS / "architecture.md").read_text()


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_setting_is_documented_with_its_variable(setting):
    page = (DOCS / "config.md").read_text()
    assert f"| `{setting.key}` | `{setting.env}` |" in page, "run: make docs"


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_package_is_in_the_architecture(folder, architecture):
    assert f"\n| `{folder}/` | " in architecture, "run: make docs"


def test_the_architecture_names_no_file_that_is_gone(architecture):
    named = set(re.findall(r"`((?:\w+/)*[a-z]\w*\.(?:py|c))`", architecture))
    traced = re.findall(r"^- `(.+?)`: (.+)$", architecture.partition("<!-- traced -->")[2], re.MULTILINE)
    named |= {f"{folder}/{name}" for folder, names in traced for name in re.findall(r"`(.+?)`", names)}
    homes = (TREE, PACKAGE)
    assert [name for name in sorted(named) if "/" in name and not any((one / name).exists() for one in homes)] == []


@pytest.mark.parametrize("word", sorted(WORDS))
def test_every_word_is_in_the_glossary(word):
    assert re.search(rf"[*`]{word}[*`]|\b{word}\b", (DOCS / "glossary.md").read_text())


@pytest.mark.parametrize("state", State)
def test_every_state_is_in_the_drawing_of_moves_or_explained(state, architecture):
    shown = "[*]" if state is State.EXITED else str(state)
    assert shown in architecture


def test_no_link_of_any_page_leads_nowhere_and_the_made_parts_can_be_made(tmp_path):
    build = subprocess.run([sys.executable, DOCS / "build.py", "--check"], capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stdout + build.stderr


def test_every_target_of_the_makefile_that_a_page_names_exists():
    targets = set(re.findall(r"^([a-z]+):", (TREE / "Makefile").read_text(), re.MULTILINE))
    pages = [TREE / "README.md", TREE / "CONTRIBUTING.md", TREE / "CHANGELOG.md", *DOCS.glob("*.md")]
    named = {name for page in pages for name in re.findall(r"[`\n]make ([a-z]+)", page.read_text())}
    assert named <= targets


def commands(page):
    """All code of a page, blocks without their comments, and its links."""
    text = (TREE / page).read_text()
    blocks = re.findall(r"```(?:sh|python)\n(.*?)```", text, re.DOTALL)
    lines = [re.sub(r"\s+# .*", "", line) for block in blocks for line in block.splitlines()]
    return lines, sorted(re.findall(r"`[^`\n]+`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)))


def test_the_readme_in_chinese_has_the_same_commands():
    assert commands("README.zh.md") == commands("README.md")
