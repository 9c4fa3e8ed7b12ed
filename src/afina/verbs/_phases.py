"""What each step of training on plain text reads: short rows and then long ones, and in each its share of replay."""

from collections.abc import Callable, Iterator
from typing import Any

from afina.core import Batch
from afina.errors import InputError
from afina.messages import _
from afina.settings import MICRO_BATCH_TOKENS
from afina.verbs._corpus import Part
from afina.verbs._objectives import OBJECTIVES

# Of each source of a step's rows, these, of one length, and their plan; and the steps that they are followed for.
Phase = tuple[list[tuple[Any, Any]], int]
UNEVEN = 0.1  # by so much rounding to whole rows may change a step's replay
MISSED = 0.2  # of the share of replay that was asked for: more is said


def phases(
    chosen: Any,
    part: Part,
    tokenizer: Any,
    world: int,
    rank: int,
    *,
    tokens: int,
    replay: Part | None = None,
) -> list[Phase]:
    """Return what is read in short rows and then in long ones, `tokens` of both; each step has its share of `replay`.

    The share is one of tokens, `chosen.replay`; each text is read in an order of its own, to its end and anew. Where
    whole rows would miss it in every step, replay comes in only some of them, or is more than a step of its own plan.
    """
    from afina.batching.plan import Paced, Plan
    from afina.batching.windows import Windows

    objective = OBJECTIVES[chosen.objective]
    full, phases = chosen.max_length or 512, []
    shares = [(part, 1.0)] if replay is None else [(part, 1 - chosen.replay), (replay, chosen.replay)]
    for length, share, seed in (
        (chosen.short_length, chosen.short_share, chosen.seed),
        (full, 1 - chosen.short_share, chosen.seed + 1),
    ):
        sources: list[tuple[Any, Any]] = []
        size = 0.0
        for place, ((corpus, documents), weight) in enumerate(shares):
            windows = Windows(corpus, length - objective.special, documents, objective.special, full)
            lengths = windows.lengths()
            total = sum(lengths)
            # Replay is a share of what a step really has, which is less where the text is small.
            wanted = size * weight / (1 - weight) if place else weight * chosen.tokens_per_step
            rows = max(1, round(wanted * len(lengths) / total))
            # The masks of two texts are drawn apart: their plans must not share a seed.
            plan = Plan(
                lengths, rows, chosen.micro_batch_tokens or MICRO_BATCH_TOKENS, seed + 2 * place, world, rank
            )
            step = total / plan.steps_per_epoch
            uneven = place and abs(wanted / step - 1) > UNEVEN
            sources.append(
                (objective.rows(windows, tokenizer), Paced(plan, wanted / step) if uneven else plan)
            )
            size += wanted if uneven else step
        steps = round(share * tokens / size)
        if steps:
            phases.append((sources, steps))
    # Of a small text a step is less than was asked for, and has the tokens all the same.
    if not phases or 2 * tokens < chosen.tokens_per_step:
        raise InputError(
            _("--max-tokens {tokens} is too few for one step of --tokens-per-step {step}.").format(
                tokens=tokens, step=chosen.tokens_per_step
            )
        )
    return phases


def passes(chosen: Any, part: Part, times: int) -> float:
    """Return how many tokens `phases` must have to read a text so many times, those that a row has besides counted."""
    from afina.batching.windows import Windows

    special, full = OBJECTIVES[chosen.objective].special, chosen.max_length or 512
    corpus, documents = part
    of_a_token = 0.0  # of a budget, so much of a pass
    for length, share in ((chosen.short_length, chosen.short_share), (full, 1 - chosen.short_share)):
        if share:
            of_a_token += share / sum(Windows(corpus, length - special, documents, special).lengths())
    return times / of_a_token


def replayed(phases: list[Phase]) -> float:
    """Return the share of the tokens that is replay."""
    seen = [0.0, 0.0]
    for sources, steps in phases:
        for place, (_rows, plan) in enumerate(sources):
            seen[place] += plan.tokens(steps)
    return seen[1] / sum(seen)


def check_replay(phases: list[Phase], asked: float, *, quiet: bool) -> None:
    """Say so where so few steps are taken that whole rows cannot make up the share of replay that was asked for."""
    from afina.messages.numbers import number
    from afina.train.track import say

    share = replayed(phases)
    if abs(share - asked) > MISSED * asked:
        say(
            _(
                "Of the tokens {share} %\u00a0are replay instead of {asked} %: with so few steps, whole rows come no nearer."
            ).format(share=number(100 * share, 1), asked=number(100 * asked, 1)),
            quiet,
        )


def between(
    phases: list[Phase], collate: Callable[[list], Batch], start: int, stop: int, most: int | None = None
) -> Iterator[list[Batch]]:
    """Yield the batches of the steps [start, stop), of `most` tokens at most: the phases one after another.

    Each has steps of its own. Batches of replay are marked as such.
    """
    from afina.batching.plan import batches
    from afina.train.rehearsal import rehearsed

    done = 0
    for sources, steps in phases:
        first, last = max(start - done, 0), min(stop - done, steps)
        if first < last:
            drawn = (
                batches(plan, rows, rehearsed(collate) if place else collate, first, last, most)
                for place, (rows, plan) in enumerate(sources)
            )
            for parts in zip(*drawn, strict=True):
                yield [batch for part in parts for batch in part]
        done += steps
