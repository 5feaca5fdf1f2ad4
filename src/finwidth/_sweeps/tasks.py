"""Which points are worked at together: those that share a kernel, or compiled chains."""

import math
from collections.abc import Hashable, Iterable
from pathlib import Path

from ..theories._theory import choose_theory
from .keys import data_digest
from .point import BEYOND, Effort, Point
from .work import Task

__all__ = ["make_tasks", "split"]


def make_tasks(
    numbered: Iterable[tuple[int, Point, Path | None]], effort: Effort
) -> tuple[list[Task], list[Task]]:
    """Return points in tasks: those that are quick, and those that take long.

    Parameters
    ----------
    numbered
        Of each point its number, itself, and the folder of its checkpoint.
    effort
        How well points are sampled.
    """
    groups: dict[Hashable, list[tuple[int, Point, Path | None]]] = {}
    for entry in numbered:
        groups.setdefault(_shared(entry[1]), []).append(entry)
    tasks = []
    for entries in groups.values():
        numbers, points, checkpoints = zip(*entries, strict=True)
        tasks.append(Task(points, numbers, effort, checkpoints))
    long = [task for task in tasks if task.sampled or _slow(task.points[0])]
    return [task for task in tasks if task not in long], long


def _slow(point: Point) -> bool:
    beyond = isinstance(point.theory, str) and point.theory in BEYOND
    return not (beyond or point.sampled) and choose_theory(point.theory).slow


def _shared(point: Point) -> Hashable:
    """Return what points have in common that are worked at together."""
    net, data = point.network, point.data
    if point.seed is not None:
        # compiled chains are those of all numbers of the same shapes
        biases = net.bias_precision is not None
        shapes = net.layers, net.activations, net.outputs, biases
        return "sampled", data_digest(data), shapes, point.likelihood.name
    kernel = (
        net.activations[-1],
        net.activation,
        net.weight_precision[:-1],
        net.bias_precision,
        net.outputs,
    )
    kind = net.depth if net.dense else net.layers
    return "solved", data_digest(data), kernel, kind, point.likelihood.name, _slow(point)


def split(tasks: Iterable[Task], n_parts: int) -> list[Task]:
    """Return the tasks in smaller ones, at least `n_parts` in all where there are points enough."""
    tasks = list(tasks)
    total = sum(len(task.points) for task in tasks)
    most = max(1, math.ceil(total / max(n_parts, 1)))
    return [
        task.part(begin, begin + most)
        for task in tasks
        for begin in range(0, len(task.points), most)
    ]
