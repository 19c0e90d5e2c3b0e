"""Train an embedded model and its retain-only twins from nothing: ``python -m mllmeraser.embedded.train --help``."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import LlavaForConditionalGeneration, PreTrainedModel, PreTrainedTokenizerFast

from mllmeraser.embedded.recipe.album import Album, Counts, tower_album, world_album
from mllmeraser.embedded.recipe.alignment import align, seen, sights
from mllmeraser.embedded.recipe.architecture import Architecture
from mllmeraser.embedded.recipe.check import exact_by_kind
from mllmeraser.embedded.recipe.corpus import Corpus
from mllmeraser.embedded.recipe.llava import Llava
from mllmeraser.embedded.recipe.loop import Phase, Trainer
from mllmeraser.embedded.recipe.plan import TEXT_KINDS, make_plan
from mllmeraser.embedded.recipe.qwen2_5_vl import Qwen25VL
from mllmeraser.embedded.recipe.sentences import tokenizer_texts
from mllmeraser.embedded.recipe.tokenizer import translate
from mllmeraser.embedded.recipe.upcycling import share_heads
from mllmeraser.embedded.recipe.vision import train_tower
from mllmeraser.portraits.people import World

Keys = frozenset[str]
ARCHITECTURES: dict[str, Architecture] = {one.name: one for one in (Llava(), Qwen25VL())}


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(
        prog="python -m mllmeraser.embedded.train",
        description="Train an embedded model on the portraits world. Run it again with the same --runs to resume.",
        epilog="example: python -m mllmeraser.embedded.train --preset dev --runs runs/dev --threads 2",
    )
    option = parser.add_argument
    option("--model", default="llava", choices=list(ARCHITECTURES))
    option("--preset", default="dev", choices=["unit", "dev", "full"])
    option("--seed", type=int, default=0)
    option("--runs", type=Path, help="folder for logs and state (default: runs/dev; or runs/MODEL, if not llava)")
    option("--out", type=Path, help="where to write the checkpoint (default: RUNS/checkpoint)")
    option("--without", type=int, choices=[5, 10, 15], help="train a retain-only twin: leave out this forget split")
    option("--fold", type=int, default=0)
    option("--join", type=int, choices=[10, 15], help="begin with the twin of this larger split; teach it the others")
    option("--improve", type=Path, help="checkpoint to continue from: train its tower further, then polish the model")
    option("--converse", type=Path, help="checkpoint to continue from: teach it conversations, keep its tower as it is")
    option("--upcycle", type=Path, help="checkpoint of an embedded llava: begin with its language model")
    option("--scale", type=float, default=1.0, help="multiplies the number of steps (try 0.01 first)")
    option("--tower-steps", type=int, default=2400)
    option("--threads", type=int, default=torch.get_num_threads())
    option("--workers", type=int, default=2, help="processes that draw pictures")
    parts = ["all", "tower", "circuits", "stage0"]
    option("--part", choices=parts, default="all", help="two processes can train tower and circuits side by side")
    args = parser.parse_args(argv)
    args.runs = args.runs or Path("runs", "dev" if args.model == Llava.name else args.model)
    return args


def main(argv: list[str] | None = None) -> None:
    """Run the recipe."""
    args = parse_arguments(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    architecture = ARCHITECTURES[args.model]
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    note = TextColumn("{task.fields[note]}")
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), note) as bars:
        training = Training(architecture, World(args.preset, args.seed), args, bars)
        if not training.run():
            return
    out = args.out or training.folder / "checkpoint"
    architecture.save_checkpoint(training.model, training.tokenizer, out)
    print(f"checkpoint written to {out}")


class Training:
    """One run of the recipe: the model, the world's pictures, and a bar for the progress."""

    def __init__(self, architecture: Architecture, world: World, args: argparse.Namespace, bars: Progress) -> None:
        self.architecture, self.world, self.args, self.bars = architecture, world, args, bars
        self.tokenizer = self._tokenizer()
        self.model = architecture.build_model(self.tokenizer, args.seed)
        self.plan = make_plan(args.scale)
        self.gone = self._people(args.without)
        twin = f"retain-only-{args.without}-fold{args.fold}"
        self.folder: Path = args.runs / ("vanilla" if args.without is None else twin)
        self.pictures = self.check_pictures = Album()

    def _tokenizer(self) -> PreTrainedTokenizerFast:
        architecture, folder = self.architecture, self.args.converse or self.args.runs / "tokenizer"
        if not folder.exists():
            architecture.train_tokenizer(tokenizer_texts(self.world, self.args.seed)).save_pretrained(folder)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        special = architecture.special_tokens
        if tokenizer.convert_tokens_to_ids(list(special)) != list(range(len(special))):
            raise SystemExit(f"error: {folder} is for another --model than {architecture.name}: choose another --runs")
        return tokenizer

    def _people(self, split: int | None) -> Keys:
        return frozenset() if split is None else frozenset(p.key for p in self.world.forget(split, self.args.fold))

    def run(self) -> bool:
        """Train the parts that the arguments ask for. Return whether the model is complete."""
        args, plan, phases, newcomers = self.args, self.plan, self.plan.people, Keys()
        if args.part != "circuits" and args.converse is None:
            self.train_tower()
        if args.part == "tower":
            return False
        if args.join is not None:
            phases, newcomers = plan.join, self._people(args.join) - self.gone
            if not self._people(args.join) > self.gone:
                raise SystemExit(f"error: --join {args.join} needs --without a smaller split")
            checkpoint = args.runs / f"retain-only-{args.join}-fold{args.fold}" / "checkpoint"
            self.model.load_state_dict(self._trained(type(self.model), checkpoint).state_dict())
        elif args.converse is not None:
            phases = plan.converse
            self.model.load_state_dict(self._trained(type(self.model), args.converse).state_dict())
        elif args.upcycle is not None:
            phases = plan.polish
            self.upcycle(args.upcycle)
        elif args.improve is not None:
            phases = plan.polish
            self.improve(args.improve)
        elif not self.stage0():
            return False
        self.teach(self.trainer(self.folder), phases, self.gone, newcomers)
        return True

    def stage0(self) -> bool:
        """Train circuits and knowledge. Return whether the arguments ask for more."""
        trainer = self.trainer(self.args.runs / "stage0")
        self.teach(trainer, self.plan.circuits)
        if self.args.part == "circuits":
            return False
        if not trainer.finished(self.plan.knowledge[0]):
            self.align()
        self.teach(trainer, self.plan.knowledge)
        return bool(self.args.part == "all")

    def train_tower(self) -> None:
        """Train the tower."""
        args, architecture = self.args, self.architecture
        steps = max(2, int(args.tower_steps * min(1.0, args.scale * 2)))

        def draw() -> Album:
            few = {"faces": 60, "scenes": 60, "emblems": 30} if args.scale < 0.2 else {}
            album = tower_album(seed=args.seed, **few)
            self._draw(album, "tower-pictures")
            return album

        bar, trained = _bar(self.bars, "tower", steps), None
        if args.improve is not None:
            trained = architecture.tower(type(self.model).from_pretrained(args.improve)).state_dict()
        train_tower(
            architecture, architecture.tower(self.model), draw, args.runs,
            steps=steps, seed=args.seed, progress=bar, trained=trained,
        )  # fmt: skip

    def draw(self) -> None:
        """Draw all training pictures, and those of the checks from other streams."""
        if len(self.pictures):
            return
        counts = Counts(4, 60, 60, 60, 30) if self.args.scale < 0.2 else Counts()
        self.pictures = world_album(self.world, seed=self.args.seed, counts=counts)
        self.check_pictures = world_album(self.world, seed=self.args.seed + 1, counts=Counts(1, 60, 60, 60, 60))
        self._draw(self.pictures, "pictures")
        self._draw(self.check_pictures, "check-pictures")

    def _draw(self, album: Album, name: str) -> None:
        file, bar = self.args.runs / f"{name}.safetensors", _bar(self.bars, name, len(album))
        album.draw(file, workers=self.args.workers, progress=bar)

    def align(self, before: torch.Tensor | None = None) -> None:
        """Fit the projector, so that it carries and names what the tower sees (see `alignment`)."""
        self.draw()
        goals = sights(self.architecture, self.model, self.tokenizer, self.pictures, before)
        steps = max(2, int(3000 * min(1.0, self.args.scale)))
        missed = align(self.architecture.projector(self.model), goals, steps=steps, seed=self.args.seed)
        print(json.dumps({"alignment misses": missed}), flush=True)

    def improve(self, checkpoint: Path) -> None:
        """Load a trained model without its tower, and fit its projector to this run's tower."""
        self.draw()
        trained = self._trained(type(self.model), checkpoint)
        before = seen(self.architecture, trained, self.pictures)
        kept = {name: p for name, p in trained.state_dict().items() if not self.architecture.in_tower(name)}
        self.model.load_state_dict(kept, strict=False)
        self.align(before)

    def upcycle(self, checkpoint: Path) -> None:
        """Begin with the language model of a trained LLaVA, with shared heads, and with its image tokens as a goal."""
        source = ARCHITECTURES[Llava.name]
        self.draw()
        donor = self._trained(LlavaForConditionalGeneration, checkpoint)
        text = donor.config.text_config
        before = seen(source, donor, self.pictures).reshape(-1, source.grid, source.grid, text.hidden_size)
        self.model.load_state_dict(share_heads(donor.state_dict(), text.num_attention_heads), strict=False)
        self.teach(self.trainer(self.folder / "upcycled"), self.plan.shared, self.gone)
        side = self.architecture.grid // self.architecture.merge
        pooled = F.adaptive_avg_pool2d(before.permute(0, 3, 1, 2), side).permute(0, 2, 3, 1)
        self.align(pooled.flatten(0, 2))

    def _trained(self, kind: type[PreTrainedModel], checkpoint: Path) -> PreTrainedModel:
        """A trained model with its embeddings moved to the tokenizer of this run."""
        trained = kind.from_pretrained(checkpoint)
        old = PreTrainedTokenizerFast.from_pretrained(checkpoint)
        words = translate(trained.get_input_embeddings().weight, old, self.tokenizer)
        trained.resize_token_embeddings(len(self.tokenizer), mean_resizing=False)
        trained.get_input_embeddings().weight.data.copy_(words)
        return trained

    def trainer(self, folder: Path) -> Trainer:
        """A trainer that keeps its state in `folder`."""
        packer = self.architecture.packer(self.tokenizer, rows=8, length=256)
        return Trainer(self.architecture, self.model, packer, folder, self.args.seed)

    def teach(
        self, trainer: Trainer, phases: list[Phase], gone: Keys = frozenset(), newcomers: Keys = frozenset()
    ) -> None:
        """Run phases in order, without the people in `gone`. Draw the pictures if a phase needs them."""
        seed = self.args.seed
        if any(set(phase.weights) - TEXT_KINDS and not trainer.finished(phase) for phase in phases):
            self.draw()
        corpus = Corpus(self.world, self.tokenizer, self.pictures, seed=seed, without=gone, newcomers=newcomers)
        probe = Corpus(self.world, self.tokenizer, self.check_pictures, seed=seed + 1, without=gone, pool="validation")
        for phase in phases:
            probe.refuse = phase.refuse
            began = time.monotonic()
            trainer.run(phase, corpus, _bar(self.bars, phase.name, phase.steps), lambda: exact_by_kind(trainer, probe))
            print(json.dumps({"phase": phase.name, "seconds": round(time.monotonic() - began)}), flush=True)


def _bar(bars: Progress, name: str, total: int) -> Callable[..., None]:
    """A bar to advance by n with a note. Without a terminal it prints a line every 100 steps."""
    task = bars.add_task(name, total=total, note="")

    def advance(n: int, note: str = "") -> None:
        before = int(bars.tasks[task].completed)
        bars.update(task, advance=n, note=note)
        if not bars.console.is_terminal and before // 100 != (before + n) // 100:
            print(f"{name} {before + n}/{total} {note}", flush=True)

    return advance


if __name__ == "__main__":
    main()
