"""Erasers and the ways to write a name: ``python -m mllmeraser.studies.names``.

The questions by name of a fold are asked with the name written otherwise, to the bare model and under the eraser: about
the people to forget, and about people who stay. Counts are as in `studies.contexts`.
"""

from __future__ import annotations

from mllmeraser.evaluation.attacks.spellings import prompts
from mllmeraser.studies.contexts import measure
from mllmeraser.studies.record import begin, study_parser


def main(argv: list[str] | None = None) -> None:
    """Run the study and write the results."""
    parser = study_parser("names", __doc__, "names-NAME-foldFOLD.json", split=True)
    parser.add_argument("--most", type=int, default=150, help="questions about people who stay, in each spelling")
    parser.add_argument("--eraser", help="folder of an eraser for this fold; default: fit one")
    args, model, benchmark, report = begin(parser, argv, "split", "fold", "most")
    asked = prompts(benchmark, args.split, args.fold, args.most, args.seed)
    measure(args, model, benchmark, report, asked)


if __name__ == "__main__":
    main()
