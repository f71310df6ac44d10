"""Random generators: other numbers each time, the same ones for a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import numpy
import pytest

from hotbed.seed import reseed


@pytest.fixture(autouse=True)
def generators_as_they_were() -> Iterator[None]:
    kept, numpy_kept = random.getstate(), numpy.random.get_state()
    yield
    reseed.forget()
    random.setstate(kept)
    numpy.random.set_state(numpy_kept)


DRAWS: dict[str, Callable[[], float]] = {"random": random.random, "numpy.random": numpy.random.random_sample}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("seed", [0, 7, 2**40])
def test_a_seed_repeats_the_numbers(name: str, seed: int) -> None:
    drawn = set()
    for _ in range(2):
        reseed.from_number(seed)
        drawn.add(DRAWS[name]())
    assert len(drawn) == 1


def test_numpy_takes_the_lowest_32_bits() -> None:
    reseed.from_number(2**32 + 7)
    assert numpy.random.random_sample() == numpy.random.RandomState(7).random_sample()


@pytest.mark.parametrize("name", DRAWS)
def test_a_generator_imported_after_the_seed_gets_it(name: str) -> None:
    reseed.from_number(7)
    first = DRAWS[name]()
    reseed.imported(name)
    assert DRAWS[name]() == first


@pytest.mark.parametrize("name", DRAWS)
def test_a_seed_is_over_when_it_is_forgotten(name: str) -> None:
    drawn = set()
    for _ in range(2):
        reseed.from_number(7)
        reseed.forget()
        reseed.imported(name)
        drawn.add(DRAWS[name]())
    assert len(drawn) == 2


def test_the_system_seeds_numpy_anew_each_time() -> None:
    drawn = set()
    for _ in range(3):
        reseed.from_system()
        drawn.add(float(numpy.random.random_sample()))
    assert len(drawn) == 3
