"""The parts of the pages that are made from code: settings, tasks, and every file of the tree with its first line.

`make docs` runs it. A made part stands between two comments, `<!-- made: NAME -->` and `<!-- /made -->`; the rest of a
page is its author's. It also follows every relative link of every page and says which lead nowhere.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from pathlib import Path

from llmos.abi.method import method_specs
from llmos.abi.task import all_specs
from llmos.config import SETTINGS, Config

TREE = Path(__file__).resolve().parents[1]
PATTERNS = (
    "README.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/*.md",
    "examples/*/README.md",
    "bench/README.md",
)
MADE = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- /made -->)", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def pages() -> list[Path]:
    """Every page of the project."""
    return sorted(page for pattern in PATTERNS for page in TREE.glob(pattern))


def settings() -> str:
    """The table of all settings, from the same list that reads them."""
    plain = Config(home=Path("~/.llmos"))
    rows = ["| setting | environment | default | may be | what it is for |", "|---|---|---|---|---|"]
    for setting in SETTINGS:
        default = getattr(plain, setting.key)
        shown = "none" if default is None else f"`{default}`"
        rows.append(f"| `{setting.key}` | `{setting.env}` | {shown} | {setting.expected} | {setting.doc} |")
    return "\n".join(rows) + "\n"


def packages() -> str:
    """The table of all packages, each with the first line of its `__init__.py`."""
    folders = sorted(file.parent for file in (TREE / "llmos").rglob("__init__.py"))
    rows = [f"| `{one.relative_to(TREE).as_posix()}/` | {first_line(one / '__init__.py')} |" for one in folders]
    return "\n".join(["| package | what it holds |", "|---|---|", *rows]) + "\n"


def tasks() -> str:
    """The table of all tasks, from their declarations."""
    rows = ["| task | family | what it gives | decided by | trained here |", "|---|---|---|---|---|"]
    for one in all_specs():
        trained = "yes" if one.is_trainable else "no"
        rows.append(f"| `{one.name}` | {one.family} | {one.about} | `{one.primary_metric}` | {trained} |")
    return "\n".join(rows) + "\n"


def methods() -> str:
    """The table of all training methods, from their declarations."""
    rows = ["| method | trains | settings and defaults | served | files | from |", "|---|---|---|---|---|---|"]
    for one in method_specs().values():
        held = ", ".join(
            f"`{setting.name}`" + ("" if setting.default is None else f" {setting.default}") for setting in one.settings
        )
        whose = "PEFT's" if one.is_in_peft else "our own"
        files = f"{whose} `{one.peft_type}`" if one.peft_type else "head" if one.keeps_base else "the whole model"
        rows.append(f"| `{one.name}` | {one.trains} | {held} | {one.serving} | {files} | {one.source} |")
    return "\n".join(rows) + "\n"


def first_line(file: Path) -> str:
    """What a file says it owns."""
    said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    assert said, f"{file} does not say what it owns"
    return said.splitlines()[0]


MAKERS: dict[str, Callable[[], str]] = {"settings": settings, "packages": packages, "tasks": tasks, "methods": methods}


def made(text: str) -> str:
    """The page with its made parts made anew."""
    return MADE.sub(lambda found: f"{found[1]}{MAKERS[found[2]]()}{found[3]}", text)


def dead_links(page: Path) -> list[str]:
    """The relative links of a page that lead to no file; what stands in code is no link."""
    targets = LINK.findall(CODE.sub("", page.read_text(encoding="utf-8")))
    local = [target.partition("#")[0] for target in targets if "://" not in target and not target.startswith("#")]
    return [target for target in local if not (page.parent / target).exists()]


def main() -> int:
    """Write what has changed (with --check, nothing); 1 if a link leads nowhere."""
    dead = []
    for page in pages():
        old = page.read_text(encoding="utf-8")
        new = made(old)
        if new != old and "--check" not in sys.argv:
            page.write_text(new, encoding="utf-8")
            sys.stdout.write(f"written: {page.relative_to(TREE)}\n")
        dead += [f"{page.relative_to(TREE)}: {target} is not there" for target in dead_links(page)]
    sys.stdout.write(("\n".join(dead) if dead else f"{len(pages())} pages, no dead link") + "\n")
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())
