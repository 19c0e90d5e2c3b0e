"""The contribution of each part of the method: the same people forgotten with one thing changed at a time.

`sections.py` lists the rows as data. `lab.py` makes requests, fits and directions, each once. `edits.py` changes an
artifact without a new fit. `questions.py` asks, and `measure.py` counts.
"""
