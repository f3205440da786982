"""Small models that the library's own tests use, too."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import pupil

VECTORS = Path(__file__).parents[3] / "tests" / "vectors"


@pytest.fixture(scope="session")
def model() -> pupil.Model:
    """A language model of random weights."""
    return pupil.Model(VECTORS / "llama.gguf")


@pytest.fixture(scope="session")
def t5() -> Path:
    """A translator of random weights."""
    return VECTORS / "t5-relu.gguf"


@pytest.fixture(scope="session")
def lights() -> Path:
    """A detector of white and of red cells of 8 x 8 pixels in pictures of 64 x 64."""
    return VECTORS / "lights.gguf"


@pytest.fixture
def street() -> np.ndarray:
    """A dark picture with a white cell in column 1 of row 2 and a red one in column 5 of row 6."""
    picture = np.full((64, 64, 3), 10, np.uint8)
    picture[16:24, 8:16] = 255
    picture[48:56, 40:48] = [255, 0, 0]
    return picture


@pytest.fixture
def turns() -> Callable[[Callable[[], object]], tuple[float, int]]:
    """Makes a call; gives the seconds that it took, and how often another thread had its turn meanwhile."""

    def count(call):
        ticks, done = [], threading.Event()

        def tick():
            while not done.wait(0.001):
                ticks.append(time.monotonic())

        thread = threading.Thread(target=tick)
        thread.start()
        began = time.monotonic()
        call()
        ended = time.monotonic()
        done.set()
        thread.join()
        return ended - began, sum(began < tick < ended for tick in ticks)

    return count
