"""The rows of a step: a pure function of seed and step, whoever asks and in whatever order."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest

from afina.batching.plan import Plan, batches, by_tokens, generator
from afina.core import Batch
from afina.errors import InputError

LENGTHS = np.random.default_rng(0).integers(3, 60, 1000).tolist()


def all_rows(plan: Plan, epoch: int) -> list[int]:
    first = epoch * plan.steps_per_epoch
    return [int(row) for step in range(first, first + plan.steps_per_epoch) for row in plan.rows(step)]


def share(plan: Plan, step: int) -> list[tuple[int, int]]:
    return list(chain.from_iterable(plan.micro_batches(step)))


def test_the_same_step_has_the_same_rows_in_whatever_order_it_is_asked_for():
    forwards, backwards = Plan(LENGTHS, 16, 500), Plan(LENGTHS, 16, 500)
    order = range(3 * forwards.steps_per_epoch)
    found = {step: backwards.micro_batches(step) for step in np.random.default_rng(1).permutation(order)}
    assert [forwards.micro_batches(step) for step in order] == [found[step] for step in order]


@pytest.mark.parametrize(("rows", "batch"), [(1000, 16), (1000, 7), (33, 32), (5, 8), (16, 16), (1, 4)])
def test_every_row_comes_once_an_epoch_in_steps_of_like_size(rows, batch):
    plan = Plan(LENGTHS[:rows], batch, 500)
    for epoch in (0, 1, 7):
        assert sorted(all_rows(plan, epoch)) == list(range(rows))
    sizes = {len(plan.rows(step)) for step in range(2 * plan.steps_per_epoch)}
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= batch
    assert {epoch for epoch, _row in share(plan, plan.steps_per_epoch)} == {1}


@pytest.mark.parametrize("world", [2, 3, 4])
def test_the_shares_of_all_ranks_are_the_step(world):
    whole = Plan(LENGTHS, 18, 500)
    ranks = [Plan(LENGTHS, 18, 500, world=world, rank=rank) for rank in range(world)]
    for step in range(whole.steps_per_epoch + 3):
        shares = [share(rank, step) for rank in ranks]
        assert Counter(chain(*shares)) == Counter(share(whole, step))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        work = [sum(LENGTHS[row] for _epoch, row in each) for each in shares]
        assert max(work) - min(work) <= max(LENGTHS), "long rows are dealt out in turn"


def test_a_step_too_small_for_all_processes_is_an_error():
    Plan(LENGTHS[:4], 2, 500, world=2)
    with pytest.raises(InputError, match="1 rows cannot be shared among 2 processes"):
        Plan(LENGTHS[:3], 2, 500, world=2)  # two steps, of two rows and of one


def test_the_token_budget_is_kept():
    plan = Plan(LENGTHS, 64, 300)
    for step in range(plan.steps_per_epoch):
        for micro in plan.micro_batches(step):
            assert len(micro) * max(LENGTHS[row] for _epoch, row in micro) <= 300
    assert by_tokens([0, 1, 2], [9, 5, 2], 4) == [[0], [1], [2]], "a row longer than the budget goes alone"
    assert by_tokens([0, 1, 2], [9, 5, 2], 18) == [[0, 1], [2]]


def test_rows_of_like_length_go_together():
    plan = Plan(LENGTHS, 16, 10**6)
    padded = sum(16 * max(LENGTHS[row] for row in plan.rows(step)) for step in range(plan.steps_per_epoch))
    shuffled = np.random.default_rng(0).permutation(LENGTHS)[:992].reshape(-1, 16)
    assert sum(LENGTHS) / padded > 0.93
    assert shuffled.sum() / (16 * shuffled.max(1).sum()) < 0.6, "without sorting half would be padding"


def test_every_epoch_and_seed_is_shuffled_anew():
    plan, other = Plan(LENGTHS, 16, 500), Plan(LENGTHS, 16, 500, seed=1)
    assert all_rows(plan, 0) != all_rows(plan, 1)
    assert all_rows(plan, 0) != all_rows(other, 0)
    means = [np.mean([LENGTHS[row] for row in plan.rows(step)]) for step in range(plan.steps_per_epoch)]
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.4, "steps must not come in the order of length"


def test_rows_of_a_small_set_meet_others_every_epoch():
    """All steps lie in one pool, no two rows are equally long: only the blurred lengths can mix them."""
    plan = Plan(range(40, 200), 16, 10**6)
    together = [{frozenset(map(int, plan.rows(step))) for step in range(e * 10, e * 10 + 10)} for e in (0, 1)]
    assert len(together[0] & together[1]) <= 2


def test_a_row_draws_from_a_generator_of_its_own():
    draws = {key: generator(*key).integers(2**62) for key in np.ndindex(3, 3, 20)}
    assert len(set(draws.values())) == len(draws)
    assert all(generator(*key).integers(2**62) == drawn for key, drawn in draws.items())


def test_batches_start_and_stop_where_they_are_told():
    plan, rows = Plan([4] * 10, 5, 10), list("abcdefghij")

    def collate(items):
        return Batch({}, {row: float(rng.integers(2**30)) for row, rng in items}, len(items))

    def counts(start, stop):
        return [[batch.counts for batch in step] for step in batches(plan, rows, collate, start, stop)]

    straight = counts(0, 6)
    assert [len(step) for step in straight] == [3] * 6
    assert counts(0, 3) + counts(3, 6) == straight
    keys = [sorted(key for batch in step for key in batch) for step in straight]
    assert sorted(keys[2] + keys[3]) == rows
