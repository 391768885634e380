"""What tasks declare for the command line: flags of `llmos train`, and how `llmos run` takes texts.

The declarations are read only when a command needs them, so that other verbs load no task.
"""

from __future__ import annotations

from inspect import Parameter, Signature
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from llmos.abi.json_type import Json
from llmos.abi.task import TaskSetting, all_specs, trainable_tasks

AFTER = "seed"  # the flag of `llmos train` that the declared ones follow
META = "llmos.task_options"
TASKS = "{tasks}"  # in a help text: the tasks that can be trained


class TrainCommand(TyperCommand):
    """`llmos train`, with a flag for each setting that a task declares with a help text."""

    _all: list[Any] | None = None  # Any: click's parameters, which typer does not expose

    def get_params(self, ctx: Any) -> list[Any]:
        """The function's own parameters and the declared ones."""
        if self._all is None:
            own: list[Any] = super().get_params(ctx)
            place = next(i for i, one in enumerate(own) if one.name == AFTER) + 1
            self._all = [*own[:place], *_declared_options(), *own[place:]]
            *some, last = trainable_tasks()
            for one in own:
                if getattr(one, "help", None):
                    one.help = one.help.replace(TASKS, f"{', '.join(some)} or {last}")
        return self._all


class RunCommand(TyperCommand):
    """`llmos run`, whose help lists the order of texts for tasks that take several."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """The function's help text and that of the tasks."""
        plain = self.help or ""
        self.help = " ".join((plain, *(f"{one.name}: {one.texts}." for one in all_specs() if one.texts)))
        super().format_help_text(ctx, formatter)
        self.help = plain


def declared_settings(ctx: typer.Context) -> dict[str, Json]:
    """The values of the declared flags of this command line."""
    return dict(ctx.meta.get(META, {}))


def _declared_options() -> list[Any]:
    """Each declared flag, as typer makes it from a parameter; its value goes to `declared_settings`."""
    settings = {one.name: one for spec in all_specs() for one in spec.settings if one.help}

    def command() -> None:
        """A function that has the declared parameters."""

    parameters = [
        Parameter(one.name, Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(one))
        for one in settings.values()
    ]
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # typer reads it, as inspect does
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    app = typer.Typer(add_completion=False)
    app.command()(command)
    options = [one for one in typer.main.get_command(app).params if one.name in settings]
    for option in options:
        option.expose_value, option.callback = False, _keep
    return options


def _annotation(setting: TaskSetting) -> Any:  # Any: a type made from a value
    flag = f"--{setting.name.replace('_', '-')}"
    return Annotated[setting.kind | None, typer.Option(flag, help=setting.help)]


def _keep(ctx: Any, option: Any, value: Json) -> None:
    ctx.meta.setdefault(META, {})[option.name] = value
