"""The model of a request that names none, as servers of one model have it: the only one here that does the task."""

from __future__ import annotations

from starlette.requests import Request

from llmos.abi.capability import allowed_tasks
from llmos.abi.error import BadInput
from llmos.api.key_guard import may_use
from llmos.kernel.interface import ModelsInterface


def model_for(
    request: Request, models: ModelsInterface, model: str, task: str, how: str, *, for_tokens: bool = False
) -> str:
    """The model that is named, else the only promoted one of this task; BadInput that lists them if there are several.

    Models of another task that do this one too count where none was made for it, and only those of the request's key.
    `how` says where a request of this interface may name one. Models of one base read the same tokens: `for_tokens`
    takes any of them, the base first.
    """
    if model:
        return model
    promoted = [one.manifest for one in models.all() if one.is_promoted and may_use(request, one.manifest.ref)]
    able = [one for one in promoted if task in allowed_tasks(one)]
    meant = [one for one in able if one.task == task] or able
    if for_tokens and len({one.base or one.ref for one in able}) == 1:
        meant = sorted(able, key=lambda one: one.base is not None)[:1]
    known = [one.name for one in meant]
    if len(known) == 1:
        return known[0]
    there = f"Of the models here, these do {task}: {', '.join(known)}" if known else f"No model here does {task}"
    raise BadInput(f"The request names no model. {there}. {how}", key="model", expected=known, task=task)
