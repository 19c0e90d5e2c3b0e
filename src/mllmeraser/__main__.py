"""`python -m mllmeraser` is `mllmeraser`."""

from mllmeraser.cli import main

if __name__ == "__main__":
    main()
