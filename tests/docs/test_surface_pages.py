"""Every route, verb and option is named in its page."""

from pathlib import Path

import pytest
import typer

from llmos.api.app import endpoints
from llmos.cli.main import app
from llmos.config import Config
from llmos.testing.kernel import MemoryKernel

DOCS = Path(__file__).parents[2] / "docs"
ROUTES = [f"{one.method} {one.path}" for one in endpoints(MemoryKernel(), Config(Path("/nowhere")))]
VERBS = typer.main.get_command(app).commands
# --install-completion and the like are typer's, and --no-foreground style opposites go without saying.
OPTIONS = sorted(
    {
        (verb, p.opts[0])
        for verb, command in VERBS.items()
        for p in command.get_params(command.context_class(command))
        if p.opts[0][0] == "-" and p.name != "help"
    }
)


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_is_documented(route):
    assert f"`{route}`" in (DOCS / "api.md").read_text()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_documented(verb):
    assert f"`llmos {verb}" in (DOCS / "cli.md").read_text()


@pytest.mark.parametrize(("verb", "option"), OPTIONS)
def test_every_option_is_documented_with_its_verb(verb, option):
    page = (DOCS / "cli.md").read_text()
    if verb in ("demo", "bench"):
        pytest.skip("the verb says its options itself: llmos demo --help, llmos bench --help")
    section = next(part for part in page.split("### ") if f"`llmos {verb}" in part.partition("\n")[0])
    assert f"`{option}" in section
