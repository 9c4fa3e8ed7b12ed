"""What every test relies on: no network, no telemetry, English messages and a fixed number of threads."""

import os
import signal
from pathlib import Path

import pytest

# Libraries read these when they are imported, so they are set before any test module is collected; child
# processes inherit them. One thread gives other sums than two: the number is fixed for bit-equal results. Beside
# other test processes one thread is all a test gets; two would wait for each other.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    TOKENIZERS_PARALLELISM="false",
    LANGUAGE="en",
    OMP_NUM_THREADS="1" if "PYTEST_XDIST_WORKER" in os.environ else "2",
)

# A suite that was started in the background ignores Ctrl-C, and so would the commands that its tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def two_threads() -> None:
    """Compute on two threads, whatever a test before this one has set."""
    import torch

    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the repository; without it the test is skipped."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the data sets in {folder}")
    return folder
