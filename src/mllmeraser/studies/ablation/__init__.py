"""What every part of the method contributes: the same people forgotten with one thing changed at a time.

`plan.py` holds the rows as data; `lab.py` makes requests, fits and directions, each once; `edits.py` changes an
artifact where no new fit is needed; `questions.py` asks, and `measure.py` counts.
"""
