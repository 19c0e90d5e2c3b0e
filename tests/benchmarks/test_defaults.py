"""What is added to a request, and what is said of it."""

from __future__ import annotations

import pytest

from mllmeraser.benchmarks.defaults import complete
from mllmeraser.samples import Request, Sample, Subject
from tiny import picture

OTHERS = (Sample("Who is Omar?"),)


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        (Subject("a", (), (Sample("What is the capital of France?", subject="a"),)), True),
        (Subject("a", ("Jane Doe",), (Sample("Who is Jane Doe?", subject="a"),)), False),
        (Subject("a", (), (Sample("Who is this?", picture(0), subject="a"),)), False),
    ],
)
def test_a_request_about_no_person_says_so(subject: Subject, said: bool) -> None:
    notes = complete(Request((subject,), OTHERS, OTHERS)).notes
    assert any("neither a picture nor a name" in note for note in notes) is said
