"""The order of samples: complete, the same for any number of processes, resumable."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wholepose.data import BatchSampler
from wholepose.errors import ConfigError


@settings(deadline=None)
@given(length=st.integers(0, 200), batch=st.integers(1, 9), processes=st.integers(1, 5), epoch=st.integers(0, 3))
def test_every_sample_once_over_all_processes(length, batch, processes, epoch):
    samplers = [
        BatchSampler(length, batch, rank=rank, processes=processes, drop_last=False) for rank in range(processes)
    ]
    seen = []
    for sampler in samplers:
        sampler.set_position(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        assert all(0 < len(items) <= batch for items in batches)
        seen += [item for items in batches for item in items]
    assert sorted(seen) == [(epoch, index) for index in range(length)]


@settings(deadline=None)
@given(length=st.integers(24, 200), processes=st.sampled_from([1, 2, 3, 4]), seed=st.integers(0, 100))
def test_several_processes_see_together_what_one_sees(length, processes, seed):
    alone = list(BatchSampler(length, 12, seed=seed))
    shares = [
        list(BatchSampler(length, 12 // processes, seed=seed, rank=r, processes=processes)) for r in range(processes)
    ]
    assert [[item for share in step for item in share] for step in zip(*shares, strict=True)] == alone
    assert len(alone) == length // 12


def test_resuming_in_the_middle_of_an_epoch_continues_the_order():
    sampler = BatchSampler(50, 4, seed=3)
    sampler.set_position(2)
    whole = list(sampler)
    sampler.set_position(2, 5)
    assert len(sampler) == len(whole) - 5
    assert list(sampler) == whole[5:]
    sampler.set_position(2, sampler.steps)
    assert list(sampler) == []
    with pytest.raises(ValueError, match="there is no step 13"):
        sampler.set_position(2, 13)


def test_epochs_and_seeds_differ_and_repeat():
    def order(seed, epoch, **options):
        sampler = BatchSampler(40, 8, seed=seed, **options)
        sampler.set_position(epoch)
        return [index for batch in sampler for _, index in batch]

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    assert order(0, 1, shuffle=False) == list(range(40))


def test_too_few_samples_are_refused():
    with pytest.raises(ConfigError, match="an epoch has 7 samples, less than one step of 2 x 4"):
        BatchSampler(7, 4, processes=2)
    with pytest.raises(ValueError, match="rank 2 of 2"):
        BatchSampler(7, 4, rank=2, processes=2)
