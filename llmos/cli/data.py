"""data: datasets; a file for each group of its verbs."""

from __future__ import annotations

from importlib import import_module

import typer

MODULES = (
    "data_import",
    "data_versions",
    "data_operations",
    "data_augment",
    "data_weak_label",
    "data_check",
    "data_export",
    "data_upload",
)

app = typer.Typer(help="Datasets: import, list, show, split, merge, sample, augment, compare.", no_args_is_help=True)
for module in MODULES:
    for verb, run in import_module(f"llmos.cli.{module}").VERBS.items():
        app.command(verb)(run)
