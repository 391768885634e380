"""bench: runs the benches, which are part of a checkout and not of the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from llmos.abi.error import Missing

ROOT = Path(__file__).resolve().parent.parent.parent


def bench(
    what: Annotated[
        str, typer.Argument(help="One of the benches in bench/README.md; all runs the short ones.")
    ] = "all",
    full: Annotated[bool, typer.Option("--full/--quick", help="All rows and more rounds; or a few minutes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare with transformers and sentence-transformers on this machine; needs a checkout of the project."""
    if not (ROOT / "bench" / "__main__.py").is_file():
        raise Missing(
            f"The measurements come with a checkout of the project, not with the installed package, and {ROOT} has "
            "no folder bench. Clone the project, then: make bench",
            extra="bench",
        )
    words = [what, *(["--full"] if full else []), *(["--json"] if as_json else [])]
    code = subprocess.run([sys.executable, "-m", "bench", *words], cwd=ROOT, check=False).returncode
    raise typer.Exit(code)
