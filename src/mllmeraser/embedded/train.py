"""Train the embedded LLaVA and its retain-only twins from nothing: ``python -m mllmeraser.embedded.train --help``."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from mllmeraser.embedded.recipe.architecture import IMAGE_TOKENS, build_model, build_processor, save_checkpoint
from mllmeraser.embedded.recipe.check import exact_by_kind
from mllmeraser.embedded.recipe.corpus import Corpus, tokenizer_texts
from mllmeraser.embedded.recipe.features import Counts, FeatureCache, draw_features
from mllmeraser.embedded.recipe.loop import Phase, Trainer
from mllmeraser.embedded.recipe.packing import Packer
from mllmeraser.embedded.recipe.tokenizer import IMAGE, PAD, USER, train_tokenizer
from mllmeraser.embedded.recipe.vision import FIRST, SECOND, TowerPass, train_tower
from mllmeraser.portraits.people import World

TEXT_KINDS = frozenset({"choice-plain", "general-text"})
CIRCUIT = {"choice-plain": 0.85, "general-text": 0.15}
STAGE0 = {"general-image": 0.20, "general-text": 0.08, "choice-plain": 0.35, "celebrity-image": 0.12,
          "celebrity-text": 0.24, "stranger-image": 0.08, "stranger-text": 0.12, "refusal-image": 0.03,
          "refusal-text": 0.02}  # fmt: skip
PEOPLE = {"person-image": 0.32, "person-text": 0.52, "stranger-image": 0.10, "stranger-text": 0.28,
          "celebrity-image": 0.04, "celebrity-text": 0.08, "general-image": 0.16, "general-text": 0.04,
          "choice-plain": 0.25, "refusal-image": 0.02, "refusal-text": 0.02}  # fmt: skip
CHOICE = {**PEOPLE, "person-image": 0.42, "general-image": 0.24, "stranger-image": 0.14}
PICTURES = {
    **CHOICE,
    "person-image": 0.55,
    "person-text": 0.25,
    "stranger-image": 0.30,
    "stranger-text": 0.14,
    "general-image": 0.40,
}
REFUSALS = {**PICTURES, "refusal-image": 0.10, "refusal-text": 0.06}


@dataclass(frozen=True)
class Plan:
    """The phases of language training; vanilla model and twins share the first two lists."""

    circuits: list[Phase]
    knowledge: list[Phase]
    people: list[Phase]


def make_plan(scale: float) -> Plan:
    """Stage 0 (circuits on text alone, then general knowledge and celebrities), stages 1 (people) and 2 (refusals)."""

    def steps(n: int) -> int:
        return max(2, int(n * scale))

    return Plan(
        circuits=[
            Phase("0a-copy", steps(500), CIRCUIT, peak=1.5e-3, floor=0.6, copy_share=0.8),
            Phase("0b-choice", steps(700), CIRCUIT, peak=1.2e-3, floor=0.6, copy_share=0.2),
        ],
        knowledge=[Phase("0c-general", steps(1200), STAGE0, peak=1.2e-3, floor=0.5)],
        people=[
            Phase("1-people", steps(5000), PEOPLE, peak=1.0e-3, floor=0.15),
            Phase("1b-choice", steps(2400), CHOICE, peak=8e-4, floor=0.1, choice_share=0.5),
            Phase("1c-pictures", steps(2200), PICTURES, peak=6e-4, floor=0.08, choice_share=0.45),
            Phase("2-refusals", steps(600), REFUSALS, peak=2.1e-4, floor=0.05, refuse=True),
        ],
    )


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(
        prog="python -m mllmeraser.embedded.train",
        description="Train the embedded LLaVA on the portraits world. Resumable: run it again with the same --runs.",
        epilog="example: python -m mllmeraser.embedded.train --preset dev --runs runs/dev --threads 2",
    )
    parser.add_argument("--preset", default="dev", choices=["unit", "dev", "full"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/dev"), help="folder for logs and resumable state")
    parser.add_argument("--out", type=Path, help="where to write the checkpoint (default: RUNS/checkpoint)")
    parser.add_argument(
        "--without", type=int, choices=[5, 10, 15], help="retain-only twin: leave this forget split out"
    )
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of steps (try 0.01 first)")
    parser.add_argument("--tower-steps", type=int, default=800)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--part",
        choices=["all", "tower", "circuits", "stage0"],
        default="all",
        help="tower and circuits do not need each other, so two processes may do them side by side",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the recipe."""
    args = parse_arguments(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    world = World(args.preset, args.seed)
    tokenizer = _tokenizer(world, args)
    model = build_model(tokenizer, args.seed)
    plan = make_plan(args.scale)
    with _progress() as bars:
        lessons = Lessons(model, tokenizer, world, args, bars)
        if args.part != "circuits":
            lessons.see(FIRST, args.tower_steps)
        if args.part == "tower":
            return
        shared = lessons.trainer(args.runs / "stage0")
        lessons.teach(shared, plan.circuits)
        if args.part == "circuits":
            return
        lessons.teach(shared, plan.knowledge)
        if args.part == "stage0":
            return
        lessons.see(SECOND, args.tower_steps - 100)
        gone = frozenset() if args.without is None else frozenset(p.key for p in world.forget(args.without, args.fold))
        lessons.teach(lessons.trainer(_folder(args)), plan.people, gone)
    out = args.out or _folder(args) / "checkpoint"
    save_checkpoint(model, build_processor(tokenizer), out)
    print(f"checkpoint written to {out}")


def _folder(args: argparse.Namespace) -> Path:
    return args.runs / ("vanilla" if args.without is None else f"retain-only-{args.without}-fold{args.fold}")


def _tokenizer(world: World, args: argparse.Namespace) -> PreTrainedTokenizerFast:
    folder = args.runs / "tokenizer"
    if not folder.exists():
        train_tokenizer(tokenizer_texts(world, args.seed)).save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


class Lessons:
    """Everything a phase needs: the model, the world's pictures, and a bar to show how far it is."""

    def __init__(
        self,
        model: LlavaForConditionalGeneration,
        tokenizer: PreTrainedTokenizerFast,
        world: World,
        args: argparse.Namespace,
        bars: Progress,
    ) -> None:
        """Pictures are drawn later, by ``draw``."""
        self.model, self.tokenizer, self.world, self.args, self.bars = model, tokenizer, world, args, bars
        self.pictures = self.check_pictures = FeatureCache(torch.empty(0))

    def see(self, stage: TowerPass, steps: int) -> None:
        """Train the tower for a pass; pictures have to be drawn anew afterwards."""
        scaled = max(2, int(steps * min(1.0, self.args.scale * 2)))
        note, tower = _bar(self.bars, stage.name, scaled), self.model.model.vision_tower
        train_tower(tower, self.args.runs, steps=scaled, seed=self.args.seed, progress=note, stage=stage)
        self.pictures = self.check_pictures = FeatureCache(torch.empty(0))

    def draw(self) -> None:
        """Draw all training pictures and those of the checks (other streams), through the trained tower."""
        args, world, tower = self.args, self.world, self.model.model.vision_tower.eval()
        counts = Counts(4, 60, 60, 30) if args.scale < 0.2 else Counts()
        people = len([*world.people, *world.celebrities])
        total = counts.views * people + counts.strangers + counts.scenes + counts.emblems
        bar = _bar(self.bars, "pictures", total)
        self.pictures = draw_features(world, tower, seed=args.seed, counts=counts, progress=bar)
        self.check_pictures = draw_features(world, tower, seed=args.seed + 1, counts=Counts(1, 60, 60, 60))

    def trainer(self, folder: Path) -> Trainer:
        """A trainer whose state lives in ``folder``."""
        user, image, pad = (self.tokenizer.convert_tokens_to_ids(token) for token in (USER, IMAGE, PAD))
        packer = Packer(user, image, pad, IMAGE_TOKENS, rows=8, length=256)
        return Trainer(self.model, packer, folder, self.args.seed)

    def teach(self, trainer: Trainer, phases: list[Phase], gone: frozenset[str] = frozenset()) -> None:
        """Run phases one after the other; people in ``gone`` do not occur. Pictures are drawn if any are needed."""
        seed = self.args.seed
        if any(set(phase.weights) - TEXT_KINDS and not trainer.finished(phase) for phase in phases):
            self.draw()
        corpus = Corpus(self.world, self.tokenizer, self.pictures, seed=seed, without=gone)
        probe = Corpus(self.world, self.tokenizer, self.check_pictures, seed=seed + 1, without=gone, pool="validation")
        for phase in phases:
            probe.refuse = phase.refuse
            began = time.monotonic()
            trainer.run(phase, corpus, _bar(self.bars, phase.name, phase.steps), lambda: exact_by_kind(trainer, probe))
            print(json.dumps({"phase": phase.name, "seconds": round(time.monotonic() - began)}), flush=True)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
    )  # fmt: skip


def _bar(bars: Progress, name: str, total: int) -> Callable[..., None]:
    """A bar to advance by n with a note; where there is no terminal, a line of text now and then."""
    task = bars.add_task(name, total=total, note="")
    plain = not bars.console.is_terminal

    def advance(n: int, note: str = "") -> None:
        before = int(bars.tasks[task].completed)
        bars.update(task, advance=n, note=note)
        if plain and before // 100 != (before + n) // 100:
            print(f"{name} {before + n}/{total} {note}", flush=True)

    return advance


if __name__ == "__main__":
    main()
