"""The report of the demo: plain data (`content`) in, one self-contained page of HTML out (`render`)."""
