"""Whatever stands in a file, a reader returns what it holds or one line. More inputs: benchmarks/fuzz_readers.py."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from hostile import READERS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mllmeraser.samples.errors import InputError


@pytest.mark.parametrize("kind", READERS)
def test_any_input_is_read_or_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    files, read = READERS[kind]

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                read(tmp_path, data.draw(files))
            except InputError as error:
                assert len(str(error).splitlines()) == 1

    check()
