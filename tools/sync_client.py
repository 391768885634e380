"""Write `llmos/sdk/client.py` from `llmos/sdk/async_client.py`: the same methods without `async` and `await`.

python tools/sync_client.py           write the file
python tools/sync_client.py --check   write nothing; exit 1 if the file is not what would be written
"""

from __future__ import annotations

import io
import subprocess
import sys
import sysconfig
import tokenize
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
SOURCE = TREE / "llmos/sdk/async_client.py"
TARGET = TREE / "llmos/sdk/client.py"
FIRST_LINE = (
    '"""Client: the daemon\'s API from Python. Made by tools/sync_client.py from async_client.py: edit that file."""'
)
NAMES = {
    "AsyncClient": "Client",
    "AsyncIterator": "Iterator",
    "asynccontextmanager": "contextmanager",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "aclose": "close",
    "aread": "read",
    "in_thread": "at_once",
    "pause": "sleep",
    "aiter_lines": "iter_lines",
}
DROPPED = {"async", "await"}
FORBIDDEN = {"asyncio", "anyio", "__aiter__", "__anext__", "aclosing", "AsyncExitStack"}  # these have no such twin


def sync_source(source: str) -> str:
    """The synchronous module of an asynchronous one, formatted; ValueError for a name that has no synchronous twin."""
    lines = _without_async(source).splitlines(keepends=True)
    lines[0] = f"{FIRST_LINE}\n"
    fixed = _ruff("check", "--quiet", "--fix", "--unsafe-fixes", "--select", "I,UP028", text="".join(lines))
    return _ruff("format", "--quiet", text=fixed)


def _without_async(source: str) -> str:
    """The source with names replaced and `async` and `await` left out; all else, comments too, stays where it was."""
    lines = source.splitlines(keepends=True)
    for token in reversed(list(tokenize.generate_tokens(io.StringIO(source).readline))):
        if token.type != tokenize.NAME:
            continue
        (row, start), (_, end) = token.start, token.end
        line = lines[row - 1]
        if token.string in FORBIDDEN:
            raise ValueError(f"{SOURCE.name}, line {row}: {token.string} has no synchronous twin. Do it in another way")
        if token.string in DROPPED:
            lines[row - 1] = line[:start] + line[end:].lstrip(" ")
        elif token.string in NAMES:
            lines[row - 1] = line[:start] + NAMES[token.string] + line[end:]
    return "".join(lines)


def _ruff(*arguments: str, text: str) -> str:
    """What ruff makes of a text under the project's own settings."""
    ruff = Path(sysconfig.get_path("scripts")) / "ruff"
    command = [str(ruff), *arguments, "--stdin-filename", str(TARGET), "-"]
    return subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True, check=True, cwd=TREE).stdout


def main() -> int:
    """Write the client anew, or with `--check` say whether it is up to date."""
    made = sync_source(SOURCE.read_text(encoding="utf-8"))
    is_current = TARGET.exists() and TARGET.read_text(encoding="utf-8") == made
    if is_current:
        return 0
    if "--check" in sys.argv:
        print(f"{TARGET.relative_to(TREE)} is not what async_client.py makes. Run: python tools/sync_client.py")
        return 1
    TARGET.write_text(made, encoding="utf-8")
    print(f"written: {TARGET.relative_to(TREE)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
