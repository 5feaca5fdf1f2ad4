"""The course of a run: warm up until it has settled, draw until there is enough, lose nothing."""

import dataclasses
from typing import Any

import numpy as np

from .._basics.errors import warn
from .._basics.progress import Progress
from .._observables.squared_error import error_series
from .checkpoint import Checkpoint
from .compiled import BLOCK
from .engine import Engine
from .plan import Plan
from .stopping import settled, stuck

__all__ = ["drive"]

_FEW = 10  # draws that say nothing about whether chains move
_WARMUP_STATISTICS = ("stats:lp", "stats:step_size")


def drive(
    engine: Engine,
    plan: Plan,
    blocks: list[dict[str, np.ndarray]],
    checkpoint: Checkpoint | None,
    bar: Progress,
) -> dict[str, Any]:
    """Run the chains; append blocks of draws to `blocks` as they come.

    Parameters
    ----------
    engine
        The chains, at their start.
    plan
        What to do.
    blocks
        Takes the blocks of draws, those of an earlier, killed run of the checkpoint first.
    checkpoint
        Where to continue from and to write to, or None.
    bar
        Shows how far the run is.

    Returns
    -------
    dict
        num_warmup, num_samples: transitions and draws that were made; warmup_settled; stuck: how
        the chains fail to move, or "".
    """
    warm: list[dict[str, np.ndarray]] = []
    ended, stuck = plan.num_warmup == 0, ""
    if checkpoint is not None:
        stored = checkpoint.load(engine.states)
        if stored is not None:
            engine.states, progress, earlier = stored
            ended, stuck = progress["warmup_ended"], progress["stuck"]
            warm = earlier[: progress["warmup_blocks"]]
            blocks += earlier[progress["warmup_blocks"] :]
            bar.update(_length(warm) + _length(blocks), "continued from the checkpoint")

    def record(block: dict[str, np.ndarray]) -> None:
        if checkpoint is not None:
            state = {"warmup_ended": ended, "warmup_blocks": len(warm), "stuck": stuck}
            checkpoint.write(engine.states, state, block)

    # chains pool what they have learnt where the kernel first uses it, then after each BLOCK
    first = getattr(engine.kernel, "first_pool", BLOCK)
    while not ended:
        done = _length(warm)
        length = first - done if done < first else BLOCK - done % BLOCK
        block = engine.advance(min(length, plan.num_warmup - done), reduced=False)
        engine.pool()
        warm.append({name: block[name] for name in _WARMUP_STATISTICS})
        done = _length(warm)
        if done == plan.num_warmup:
            ended = True
        elif plan.adaptive and _settled(warm):
            engine.end_warmup()
            ended = True
        record(warm[-1])
        bar.update(_length([block]), _describe("warm-up", block))
    done = _length(warm)
    is_settled = bool(warm) and _settled(warm)
    bar.skip(plan.num_warmup - done)
    if plan.adaptive and not is_settled:
        warn(
            f"expected a warm-up that settles within {plan.num_warmup} transitions, got chains "
            "that still disagree on the log density or a step size that still changes"
        )

    start = engine.positions()
    reached, numbers = _check_target(plan, blocks)
    while _length(blocks) < plan.num_samples and not reached:
        block = engine.advance(min(BLOCK, plan.num_samples - _length(blocks)), plan.thin)
        blocks.append(block)
        stuck = _stuck(engine, plan, blocks, start, stuck)
        record(block)
        reached, numbers = _check_target(plan, blocks)
        bar.update(_length([block]), _describe("sampling", block))
    if plan.target.active and not reached:
        warn(
            f"expected target_mcse = {plan.target.mcse} and target_ess = {plan.target.ess} on the "
            f"test error, got {numbers} after {plan.num_samples} draws per chain"
        )
    return {
        "num_warmup": done,
        "warmup_settled": is_settled,
        "num_samples": _length(blocks),
        "stuck": stuck,
        "target": dataclasses.asdict(plan.target) | {"reached": reached},
    }


def _length(blocks: list[dict[str, np.ndarray]]) -> int:
    return sum(block["stats:lp"].shape[1] for block in blocks)


def _settled(warm: list[dict[str, np.ndarray]]) -> bool:
    log_density, steps = (
        np.concatenate([block[name] for block in warm], axis=1) for name in _WARMUP_STATISTICS
    )
    return settled(log_density, steps)


def _stuck(
    engine: Engine,
    plan: Plan,
    blocks: list[dict[str, np.ndarray]],
    start: np.ndarray,
    told: str,
) -> str:
    """Say how the chains fail to move, with a warning the first time, or return "".

    Looked at after the first block, so that nobody waits for the rest of a run of which all
    chains are stuck, and at the end.
    """
    draws = _length(blocks)
    last = draws == plan.num_samples
    if draws < _FEW or not (len(blocks) == 1 or last):
        return told
    steps = np.concatenate([block["stats:n_steps"] for block in blocks], axis=1) / plan.thin
    most = getattr(engine.kernel, "max_num_steps", None)
    found = stuck(start, engine.positions(), steps, most, everywhere=not last)
    if found and not told:
        step = blocks[-1]["stats:step_size"].min()
        warn(f"expected chains that move, got {found} (step size {step:.1g})")
    return found


def _check_target(plan: Plan, blocks: list[dict[str, np.ndarray]]) -> tuple[bool, dict[str, Any]]:
    """Look at the target after 100 draws, then whenever there are a fifth more, and at the end.

    The schedule depends on the number of draws alone: a run that was killed stops where it would
    have stopped otherwise.
    """
    draws = _length(blocks)
    y_test = plan.posterior.y_test
    if not plan.target.active or y_test is None or not blocks:
        return False, {}
    check = 4 * BLOCK
    while check < draws:
        check = -(-check * 6 // (5 * BLOCK)) * BLOCK
    if draws not in (check, plan.num_samples):
        return False, {}
    return plan.target.reached(error_series(blocks, y_test))


def _describe(phase: str, block: dict[str, np.ndarray]) -> str:
    step, acceptance = block["stats:step_size"].mean(), block.get("stats:acceptance_rate")
    text = f"{phase}, step {step:.2g}"
    return text if acceptance is None else f"{text}, acceptance {acceptance.mean():.2f}"
