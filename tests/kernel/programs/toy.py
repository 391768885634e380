"""A program from another package, written into a folder as `pip` would install it: its declaration, its main, its
entry point."""

from __future__ import annotations

from pathlib import Path

DECLARATION = '''
"""count: counts the lines of a file."""

from llmos.abi.device import LeaseKind
from llmos.abi.error import BadInput
from llmos.abi.process import Priority
from llmos.kernel.programs.arguments import Text
from llmos.kernel.programs.declaration import Declaration


class Count(Declaration):
    name = "count"
    main = "toy_program.main"
    arguments = {"file": Text, "least": int}
    default_priority = Priority.BACKGROUND

    def check(self, spec, model, facts):
        if spec.args.get("least", 0) < 0:
            raise BadInput("least must not be negative", key="least")
        return spec

    def footprint(self, spec, model, facts):
        return {LeaseKind.WORKSPACE: 12_345_678}

    def title(self, spec):
        return f"count the lines of {spec.args['file']}"

    def follow_paths(self, args, rules):
        return {**args, "file": rules.follow(args["file"])}

    def job(self, job, store, config):
        from dataclasses import replace

        return replace(job, args={**job.args, "home": str(config.home)})


PROGRAM = Count()
'''
MAIN = '''
"""The child of count."""

from pathlib import Path

from llmos.abi.process import DONE, Progress


def main(channel, job):
    lines = Path(job.args["file"]).read_text().splitlines()
    print(f"{job.program} for {job.args['home']} at least {job.args['least']}")
    channel.report(Progress(DONE, 1, 1, message=f"{len(lines)} lines"), is_last=True)
'''


def install_toy(folder: Path) -> Path:
    """The folder, which stands on PYTHONPATH, with the package in it, and one whose declaration cannot be imported."""
    package = folder / "toy_program"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "declaration.py").write_text(DECLARATION)
    (package / "main.py").write_text(MAIN)
    points = {"toy_program": "count = toy_program.declaration:PROGRAM", "toy_broken": "broken = toy_broken:PROGRAM"}
    for name, point in points.items():
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[llmos.programs]\n{point}\n")
    return folder
