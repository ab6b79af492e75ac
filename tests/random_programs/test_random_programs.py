"""Random programs: what is demanded of every program, whatever it is. More of them: python -m tests.random_programs."""

import jax
import pytest

from .demands import Refused
from .every import demand_all
from .generator import sample

READ, COMPUTED = range(0, 10), (1,)
MANY_READ = range(360, 550)
OVER_A_MINUTE = {4139, 4237, 4242, 4248, 4264, 4291, 4295}
MANY_COMPUTED = (2, 5, 6, 7, 9, 13, 14, 15, 16, 1213, 1720, 2128, *sorted({*range(4100, 4300)} - OVER_A_MINUTE))


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """What is run once is not worth optimizing."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def meets_demands(seed: int, tier: int) -> None:
    program = sample(seed)
    try:
        demand_all(program, tier)
    except Refused as refused:
        pytest.skip(str(refused))
    except AssertionError as error:
        raise AssertionError(f"{error}\n\n{program.text}") from error


@pytest.mark.parametrize("seed", READ)
def test_check_derivations_and_core_form(seed):
    meets_demands(seed, 1)


@pytest.mark.parametrize("seed", COMPUTED)
def test_kernels_against_finite_networks(seed):
    meets_demands(seed, 2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", MANY_READ)
def test_many_more_are_read(seed):
    meets_demands(seed, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", MANY_COMPUTED)
def test_many_more_kernels(seed):
    meets_demands(seed, 3)


def test_the_same_for_the_same_seed():
    assert sample(7).text == sample(7).text
    assert len({sample(seed).text for seed in range(50)}) == 50
