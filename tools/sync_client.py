"""Write `llmos/sdk/client.py` from `llmos/sdk/async_client.py`, and each file of `llmos/sdk/blocking` from that of
`llmos/sdk/aio`: the same methods without `async` and `await`.

python tools/sync_client.py           write the files
python tools/sync_client.py --check   write nothing; exit 1 if a file is not what would be written
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import sysconfig
import tokenize
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
SDK = TREE / "llmos/sdk"
SOURCE, TARGET = SDK / "async_client.py", SDK / "client.py"
PARTS, MADE_PARTS = SDK / "aio", SDK / "blocking"
FIRST_LINE = '"""{what}. Made by tools/sync_client.py from {source}: edit that file."""'
NAMES = {
    "AsyncIterator": "Iterator",
    "asynccontextmanager": "contextmanager",
    PARTS.name: MADE_PARTS.name,
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "aclose": "close",
    "aread": "read",
    "in_thread": "at_once",
    "pause": "sleep",
    "aiter_lines": "iter_lines",
}
OUR_CLASS = re.compile(r"^Async(?=[A-Z])")
DROPPED = {"async", "await"}
FORBIDDEN = {"asyncio", "anyio", "__aiter__", "__anext__", "aclosing", "AsyncExitStack"}  # these have no such twin


def files() -> dict[Path, Path]:
    """Every file that is written by hand, and the one that is made from it."""
    return {SOURCE: TARGET} | {path: MADE_PARTS / path.name for path in sorted(PARTS.glob("*.py"))}


def sync_source(source: str, first_line: str) -> str:
    """The synchronous module of an asynchronous one, formatted; ValueError for a name that has no synchronous twin."""
    lines = _without_async(source).splitlines(keepends=True)
    lines[0] = f"{first_line}\n"
    fixed = _ruff("check", "--quiet", "--fix", "--unsafe-fixes", "--select", "I,UP028", text="".join(lines))
    return _ruff("format", "--quiet", text=fixed)


def made_from(path: Path) -> str:
    """The text of the file that is made from this one."""
    what = "Client: the daemon's API from Python" if path == SOURCE else "Parts of Client"
    return sync_source(
        path.read_text(encoding="utf-8"), FIRST_LINE.format(what=what, source=path.relative_to(SDK).as_posix())
    )


def _without_async(source: str) -> str:
    """The source with names replaced and `async` and `await` left out; all else, comments too, stays where it was."""
    lines = source.splitlines(keepends=True)
    for token in reversed(list(tokenize.generate_tokens(io.StringIO(source).readline))):
        if token.type != tokenize.NAME:
            continue
        (row, start), (_, end) = token.start, token.end
        line = lines[row - 1]
        if token.string in FORBIDDEN:
            raise ValueError(f"line {row}: {token.string} has no synchronous twin. Do it in another way")
        if token.string in DROPPED:
            lines[row - 1] = line[:start] + line[end:].lstrip(" ")
        else:
            lines[row - 1] = line[:start] + _twin(token.string) + line[end:]
    return "".join(lines)


def _twin(name: str) -> str:
    """The synchronous name of an asynchronous one: AsyncClient is Client, and names of others are as in NAMES."""
    return NAMES.get(name) or OUR_CLASS.sub("", name)


def _ruff(*arguments: str, text: str) -> str:
    """What ruff makes of a text under the project's own settings."""
    ruff = Path(sysconfig.get_path("scripts")) / "ruff"
    command = [str(ruff), *arguments, "--stdin-filename", str(TARGET), "-"]
    return subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True, check=True, cwd=TREE).stdout


def main() -> int:
    """Write the files anew, or with `--check` say which are not up to date."""
    made = {target: made_from(source) for source, target in files().items()}
    stale = [path for path, text in made.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    left = sorted(set(MADE_PARTS.glob("*.py")) - set(made))
    if "--check" in sys.argv:
        for path in (*stale, *left):
            print(f"{path.relative_to(TREE)} is not what its source makes. Run: python tools/sync_client.py")
        return 1 if stale or left else 0
    for path in left:
        path.unlink()
        print(f"removed: {path.relative_to(TREE)}")
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(made[path], encoding="utf-8")
        print(f"written: {path.relative_to(TREE)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
