"""What an eraser does when it fires: ``python -m mllmeraser.studies.actions``.

One eraser acts in three ways: it shifts states, it enforces a reply, or it does both. Counted are facts that leak in
all contexts and after a begun answer, and right answers about people who stay (see `studies.contexts`). Attackers try
to learn who was deleted (see `studies.oracle`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mllmeraser.erasure import FitSettings
from mllmeraser.erasure.calibration.reply import reply_of
from mllmeraser.erasure.policy import Action
from mllmeraser.evaluation.attacks.asked import Asked, answers, compared
from mllmeraser.evaluation.attacks.in_context import BEGUN, prompts
from mllmeraser.portraits.prompts import default_strangers
from mllmeraser.portraits.taught import world_of
from mllmeraser.samples.intervals import wilson
from mllmeraser.studies.erasers import eraser_of
from mllmeraser.studies.oracle import asked_alike, attacked
from mllmeraser.studies.record import begin, study_parser

ACTIONS: tuple[Action, ...] = ("shift", "reply", "both")


def main(argv: list[str] | None = None) -> None:
    """Run the study and write the results."""
    parser = study_parser("actions", __doc__, "actions-NAME.json", split=True)
    parser.add_argument("--most", type=int, default=24, help="questions of each kind, side and modality")
    parser.add_argument("--strangers", type=int, default=40, help="number of unseen people to ask about")
    args, model, benchmark, report = begin(parser, argv, "split", "fold", "most", "strangers")
    world, keys = world_of(benchmark.name), set(benchmark.forget_ids(args.split, args.fold))
    gone = [person for person in world.people if person.key in keys]
    asked = prompts(benchmark, args.split, args.fold, "test", args.most, args.seed)
    alike = asked_alike([*gone, *world.holdout[: args.strangers]], args.seed)
    made = eraser_of(model, benchmark, "default", split=args.split, fold=args.fold, seed=args.seed)
    reply = reply_of(model, FitSettings.preset("default"), default_strangers(world))
    bare = answers(model, asked)
    for action in ACTIONS:
        if action in report:
            continue
        eraser = made.with_action(action, reply)
        with eraser.attached(model):
            erased = answers(model, asked)
        shown = attacked(model, benchmark, eraser, alike, [person.key for person in gone], seed=args.seed)
        entry = {"fold": args.fold, "sentence": reply.text, **pooled(asked, bare, erased), "oracle": shown}
        report.add(action, entry)
        print(action, {key: entry[key] for key in GROUPS}, {k: round(a["answer"]["auc"], 3) for k, a in
              shown["attackers"].items()}, flush=True)  # fmt: skip


GROUPS = ("forgotten", "forgotten, begun", "stays")


def pooled(asked: Sequence[Asked], bare: Sequence[str], erased: Sequence[str]) -> Mapping[str, Any]:
    """Answers that the bare model knows, and those that are left, over all kinds of context."""
    counts = {group: [0, 0] for group in GROUPS}
    for key, entry in compared(asked, bare, erased).items():
        side, kind = key.split(", ", 1)
        group = f"{side}, begun" if kind.startswith(BEGUN) else side
        counts[group][0] += entry["known"]
        counts[group][1] += entry["left"]
    return {
        group: {"known": known, "left": left, "interval": wilson(left, known) if known else None}
        for group, (known, left) in counts.items()
    }


if __name__ == "__main__":
    main()
