"""Every difference between lm-eval's releases, named by release; nothing else asks for lm-eval's version.

Tried are 0.4.13 and 0.5.0.dev1. Release 0.5 rebuilt tasks and metrics: those differences are base classes in
`model_wrappers.compat_tasks`, because they need lm-eval imported. This module imports nothing of lm-eval, so whoever only
wants its version does not pay for it.

===================================  =====================================  ============================================
what                                 0.4                                    0.5
===================================  =====================================  ============================================
arguments of a rolling request       ``(text,)``                            ``("", text)``
answer to a rolling request          log-likelihood                         ``(log-likelihood, False)``
fields of a request                  task and document in ``metadata``      fields of their own
logged answer of a generating task   ``[text]``                             ``[[text]]``
error of a group's unweighted mean   of that mean                           of all documents pooled: `mend_groups`
Jinja's environment                  ``lm_eval.utils.env``                  ``lm_eval.config.templates._jinja_env()``
tasks, metrics, multiple inputs      `model_wrappers.compat_tasks`          `model_wrappers.compat_tasks`
===================================  =====================================  ============================================

That 0.4.14 and later read the entry points of models themselves is found out in `model_wrappers._hook`, by looking.
"""

from __future__ import annotations

import functools
import logging
import math
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import jinja2
    from lm_eval.api.instance import Instance

__all__ = [
    "TRIED",
    "instance",
    "jinja_environment",
    "lm_eval_version",
    "logged_text",
    "mend_groups",
    "request_of_task",
    "rolling_answer",
    "rolling_request",
    "rolling_text",
    "rolling_value",
    "tasks_of_0_5",
    "warn_if_untried",
]

TRIED = ("0.4.13", "0.5.0.dev1")
"""Releases that `.ci/run` tries, oldest first."""

_log = logging.getLogger(__name__)


def lm_eval_version() -> str:
    """Return the version of the installed lm-eval."""
    return version("lm_eval")


@functools.cache
def warn_if_untried() -> None:
    """Say once in a process that the installed lm-eval is newer than what was tried, and which releases were."""
    installed = lm_eval_version()
    if installed not in TRIED and _numbers(installed) >= _numbers(TRIED[0]):
        _log.warning(
            "lm-eval %s has not been tried with lm-eval-overtrain, %s have; if something fails, install one of these "
            "(pip install lm-eval==%s)",
            installed,
            " and ".join(TRIED),
            TRIED[0],
        )


@functools.cache
def tasks_of_0_5() -> bool:
    """Return whether tasks, requests and metrics are those of lm-eval 0.5, its pre-releases included."""
    return _numbers(lm_eval_version()) >= (0, 5)


def rolling_request(text: str) -> tuple[str, ...]:
    """Return the arguments of the request for a whole text's log-likelihood."""
    return ("", text) if tasks_of_0_5() else (text,)


def rolling_text(arguments: tuple[str, ...]) -> str:
    """Return the text that a rolling request asks for."""
    return arguments[-1]


def rolling_answer(value: float) -> Any:
    """Return a text's log-likelihood (nats) as an LM must answer it."""
    return (value, False) if tasks_of_0_5() else value


def rolling_value(answer: Any) -> float:
    """Return the log-likelihood (nats) in an LM's answer to a rolling request, with the attributes that it carries."""
    return answer[0] if isinstance(answer, tuple | list) else answer


def logged_text(sample: Mapping[str, Any]) -> str:
    """Return the generated text of a logged sample, as either release logs it.

    >>> logged_text({"filtered_resps": ["0.4"]}), logged_text({"filtered_resps": [["0.5"]]})
    ('0.4', '0.5')
    """
    text = sample["filtered_resps"][0]
    while isinstance(text, list):
        text = text[0]
    return str(text)


def instance(
    kind: str, arguments: tuple[Any, ...], *, task: str, document: int, index: int = 0, **more: Any
) -> Instance:
    """Return lm-eval's request.

    Args:
        kind: ``loglikelihood``, ``loglikelihood_rolling`` or ``generate_until``.
        arguments: what is asked.
        task: name of the task.
        document: number of the document.
        index: number of the request among those of its document.
        more: further fields; ``doc`` is empty where it is not given.
    """
    from lm_eval.api.instance import Instance

    fields = {"request_type": kind, "doc": {}, "arguments": arguments, "idx": index} | more
    if tasks_of_0_5():
        return Instance(**fields, task_name=task, doc_id=document)
    return Instance(**fields, metadata=(task, document, 1))


def request_of_task(task: Any, doc: Any, arguments: tuple[Any, ...], **given: Any) -> Instance:
    """Return the request for a document, from what lm-eval hands to a task's ``construct_requests``.

    Args:
        task: that is asked.
        doc: the document.
        arguments: what is asked of the model.
        given: 0.4: ``metadata``, of task, document and repeats. 0.5: ``doc_id``, perhaps ``metadata``.
    """
    from lm_eval.api.instance import Instance

    fields = {"request_type": task.OUTPUT_TYPE, "doc": doc, "arguments": arguments, "idx": 0} | given
    if tasks_of_0_5():
        fields = {name: value for name, value in fields.items() if value is not None} | {"task_name": task.task_name}
    return Instance(**fields)


def jinja_environment() -> jinja2.Environment:
    """Return the environment that lm-eval compiles templates in: its filters, undefined names and newlines."""
    if tasks_of_0_5():
        from lm_eval.config.templates import _jinja_env

        return _jinja_env()
    from lm_eval.utils import env

    return env


def mend_groups(groups: Mapping[str, Any]) -> None:
    """Give a group's unweighted mean over tasks its own standard error, as in 0.4; 0.5.0.dev1 pools the documents of all.

    Args:
        groups: of ``TaskManager.load``; changed in place.
    """
    if tasks_of_0_5():
        for group in groups.values():
            group.aggregate = functools.partial(_with_errors, group, group.aggregate)


def _with_errors(group: Any, aggregate: Callable[[Any], dict[str, Any]], results: Mapping[str, Any]) -> dict[str, Any]:
    found = aggregate(results)
    tasks = [results[task.task_name] for task in group.get_all_tasks() if task.task_name in results]
    plain = {one.metric for one in group.aggregate_metric_list or () if not one.weight_by_size}
    for key in [key for key in found if key.partition(",")[0] in plain]:
        metric, _, chosen = key.partition(",")
        error = f"{metric}_stderr,{chosen}"
        errors = [task[error] for task in tasks if key in task]
        if errors and all(isinstance(e, int | float) for e in errors):
            found[error] = math.sqrt(sum(e**2 for e in errors)) / len(errors)
    return found


def _numbers(release: str) -> tuple[int, ...]:
    """Return a release's numbers, without what marks it as a pre-release.

    >>> _numbers("0.4.13"), _numbers("0.5.0.dev1"), _numbers("0.6rc1")
    ((0, 4, 13), (0, 5, 0), (0, 6))
    """
    from packaging.version import Version

    return Version(release).release
