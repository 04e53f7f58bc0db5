"""Readers raise our errors only, whatever they read: seeded inputs here, minutes in benchmarks/fuzz.py."""

import tempfile
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from public_readers import READERS, check

EXAMPLES = 40


@pytest.mark.parametrize("name", READERS)
def test_a_reader_raises_our_errors_only(name):
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(READERS[name].inputs)
    def fits(value):
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check(name, Path(folder), value)

    fits()
