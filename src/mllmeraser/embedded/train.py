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
from mllmeraser.embedded.recipe.alignment import align
from mllmeraser.embedded.recipe.architecture import Architecture
from mllmeraser.embedded.recipe.check import exact_by_kind
from mllmeraser.embedded.recipe.corpus import Corpus, tokenizer_texts
from mllmeraser.embedded.recipe.llava import Llava
from mllmeraser.embedded.recipe.loop import Phase, Trainer
from mllmeraser.embedded.recipe.plan import TEXT_KINDS, Plan, make_plan
from mllmeraser.embedded.recipe.qwen2_5_vl import Qwen25VL
from mllmeraser.embedded.recipe.sights import seen, sights
from mllmeraser.embedded.recipe.upcycling import share_heads
from mllmeraser.embedded.recipe.vision import train_tower
from mllmeraser.embedded.recipe.vocabulary import translate
from mllmeraser.portraits.people import World

ARCHITECTURES: dict[str, Architecture] = {one.name: one for one in (Llava(), Qwen25VL())}


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(
        prog="python -m mllmeraser.embedded.train",
        description="Train an embedded model on the portraits world. Resumable: run it again with the same --runs.",
        epilog="example: python -m mllmeraser.embedded.train --preset dev --runs runs/dev --threads 2",
    )
    parser.add_argument("--model", default="llava", choices=list(ARCHITECTURES))
    parser.add_argument("--preset", default="dev", choices=["unit", "dev", "full"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--runs", type=Path, help="folder for logs and resumable state (default: runs/dev; or runs/MODEL, if not llava)"
    )
    parser.add_argument("--out", type=Path, help="where to write the checkpoint (default: RUNS/checkpoint)")
    parser.add_argument(
        "--without", type=int, choices=[5, 10, 15], help="retain-only twin: leave this forget split out"
    )
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument(
        "--join",
        type=int,
        choices=[10, 15],
        help="begin with the finished twin of this larger split of the same fold and teach it the people it lacks",
    )
    parser.add_argument(
        "--improve",
        type=Path,
        help="checkpoint to go on from: its tower is taught on (deeper, if the recipe's is), then it is polished",
    )
    parser.add_argument(
        "--upcycle", type=Path, help="checkpoint of an embedded llava whose language model another --model begins with"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of steps (try 0.01 first)")
    parser.add_argument("--tower-steps", type=int, default=2400)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workers", type=int, default=2, help="processes that draw pictures")
    parser.add_argument(
        "--part",
        choices=["all", "tower", "circuits", "stage0"],
        default="all",
        help="tower and circuits do not need each other, so two processes may do them side by side",
    )
    args = parser.parse_args(argv)
    args.runs = args.runs or Path("runs", "dev" if args.model == Llava.name else args.model)
    return args


def main(argv: list[str] | None = None) -> None:
    """Run the recipe."""
    args = parse_arguments(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    world = World(args.preset, args.seed)
    architecture = ARCHITECTURES[args.model]
    tokenizer = _tokenizer(architecture, world, args)
    model = architecture.build_model(tokenizer, args.seed)
    plan = make_plan(args.scale)
    with _progress() as bars:
        lessons = Lessons(architecture, model, tokenizer, world, args, bars)
        if args.part != "circuits":
            lessons.see()
        if args.part == "tower":
            return
        if not _begin(lessons, world, plan, args):
            return
        _people(lessons, world, plan, args)
    out = args.out or _folder(args) / "checkpoint"
    architecture.save_checkpoint(model, tokenizer, out)
    print(f"checkpoint written to {out}")


def _begin(lessons: Lessons, world: World, plan: Plan, args: argparse.Namespace) -> bool:
    """From where the people are taught: another model, or stage 0; whether they are to be."""
    if args.join is not None:
        if not _keys(world, args.join, args.fold) > _keys(world, args.without, args.fold):
            raise SystemExit(f"error: --join {args.join} needs --without a smaller split")
        lessons.take_over(args.runs / f"retain-only-{args.join}-fold{args.fold}" / "checkpoint")
    elif args.upcycle is not None:
        trainer = lessons.trainer(_folder(args) / "upcycled")
        lessons.upcycle(args.upcycle, trainer, plan.shared, _keys(world, args.without, args.fold))
    elif args.improve is not None:
        lessons.improve(args.improve)
    else:
        return _stage0(lessons, plan, args)
    return True


def _stage0(lessons: Lessons, plan: Plan, args: argparse.Namespace) -> bool:
    """Circuits and knowledge; whether more is wanted after them."""
    shared = lessons.trainer(args.runs / "stage0")
    lessons.teach(shared, plan.circuits)
    if args.part == "circuits":
        return False
    if not shared.finished(plan.knowledge[0]):
        lessons.open_eyes()
    lessons.teach(shared, plan.knowledge)
    return bool(args.part == "all")


def _people(lessons: Lessons, world: World, plan: Plan, args: argparse.Namespace) -> None:
    """Stages 1 and 2, or what a model needs that has been through them; a joining twin meets only whom it lacks."""
    gone, newcomers, phases = _keys(world, args.without, args.fold), frozenset[str](), plan.people
    if args.join is not None:
        newcomers, phases = _keys(world, args.join, args.fold) - gone, plan.join
    elif args.improve is not None or args.upcycle is not None:
        phases = plan.polish
    lessons.teach(lessons.trainer(_folder(args)), phases, gone, newcomers)


def _keys(world: World, split: int | None, fold: int) -> frozenset[str]:
    return frozenset() if split is None else frozenset(p.key for p in world.forget(split, fold))


def _folder(args: argparse.Namespace) -> Path:
    return args.runs / ("vanilla" if args.without is None else f"retain-only-{args.without}-fold{args.fold}")


def _tokenizer(architecture: Architecture, world: World, args: argparse.Namespace) -> PreTrainedTokenizerFast:
    folder = args.runs / "tokenizer"
    if not folder.exists():
        architecture.train_tokenizer(tokenizer_texts(world, args.seed)).save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    special = architecture.special_tokens
    if tokenizer.convert_tokens_to_ids(list(special)) != list(range(len(special))):
        raise SystemExit(f"error: {folder} belongs to another --model than {architecture.name}: choose another --runs")
    return tokenizer


class Lessons:
    """Everything a phase needs: the model, the world's pictures, and a bar to show how far it is."""

    def __init__(
        self,
        architecture: Architecture,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        world: World,
        args: argparse.Namespace,
        bars: Progress,
    ) -> None:
        """Pictures are drawn later, by ``draw``."""
        self.architecture, self.model, self.tokenizer = architecture, model, tokenizer
        self.world, self.args, self.bars = world, args, bars
        self.pictures = self.check_pictures = Album()

    def see(self) -> None:
        """Train the tower."""
        few = self.args.scale < 0.2
        steps = max(2, int(self.args.tower_steps * min(1.0, self.args.scale * 2)))

        def draw() -> Album:
            album = tower_album(seed=self.args.seed, **({"faces": 60, "scenes": 60, "emblems": 30} if few else {}))
            self._draw(album, "tower-pictures")
            return album

        note = _bar(self.bars, "tower", steps)
        tower, trained = self.architecture.tower(self.model), None
        if self.args.improve is not None:
            trained = self.architecture.tower(type(self.model).from_pretrained(self.args.improve)).state_dict()
        train_tower(
            self.architecture, tower, draw, self.args.runs,
            steps=steps, seed=self.args.seed, progress=note, trained=trained,
        )  # fmt: skip

    def draw(self) -> None:
        """Draw all training pictures and those of the checks (other streams)."""
        if len(self.pictures):
            return
        counts = Counts(4, 60, 60, 60, 30) if self.args.scale < 0.2 else Counts()
        self.pictures = world_album(self.world, seed=self.args.seed, counts=counts)
        self.check_pictures = world_album(self.world, seed=self.args.seed + 1, counts=Counts(1, 60, 60, 60, 60))
        self._draw(self.pictures, "pictures")
        self._draw(self.check_pictures, "check-pictures")

    def open_eyes(self, before: torch.Tensor | None = None) -> None:
        """Begin with a projector that carries and names what the tower sees (see ``alignment``)."""
        self.draw()
        architecture, model = self.architecture, self.model
        lesson = sights(architecture, model, self.tokenizer, self.pictures, before)
        steps = max(2, int(3000 * min(1.0, self.args.scale)))
        missed = align(architecture.projector(model), lesson, steps=steps, seed=self.args.seed)
        print(json.dumps({"alignment misses": missed}), flush=True)

    def improve(self, checkpoint: Path) -> None:
        """Take over a trained model, but for its tower: the projector is fitted to this run's."""
        self.draw()
        trained = self._speaking(type(self.model), checkpoint)
        before = seen(self.architecture, trained, self.pictures)
        kept = {name: p for name, p in trained.state_dict().items() if not self.architecture.in_tower(name)}
        self.model.load_state_dict(kept, strict=False)
        self.open_eyes(before)

    def upcycle(self, checkpoint: Path, trainer: Trainer, phases: list[Phase], gone: frozenset[str]) -> None:
        """Begin with the language model of a trained LLaVA, its heads shared, and with what it sees."""
        source, model = ARCHITECTURES[Llava.name], self.model
        self.draw()
        donor = self._speaking(LlavaForConditionalGeneration, checkpoint)
        text = donor.config.text_config
        before = seen(source, donor, self.pictures).reshape(-1, source.grid, source.grid, text.hidden_size)
        model.load_state_dict(share_heads(donor.state_dict(), text.num_attention_heads), strict=False)
        self.teach(trainer, phases, gone)
        side = self.architecture.grid // self.architecture.merge
        pooled = F.adaptive_avg_pool2d(before.permute(0, 3, 1, 2), side).permute(0, 2, 3, 1)
        self.open_eyes(pooled.flatten(0, 2))

    def take_over(self, checkpoint: Path) -> None:
        """All weights of a checkpoint, whose tokenizer may be another one."""
        self.model.load_state_dict(self._speaking(type(self.model), checkpoint).state_dict())

    def _speaking(self, kind: type[PreTrainedModel], checkpoint: Path) -> PreTrainedModel:
        """A trained model that has been given the tokenizer of this run."""
        trained = kind.from_pretrained(checkpoint)
        spoken = PreTrainedTokenizerFast.from_pretrained(checkpoint)
        words = translate(trained.get_input_embeddings().weight, spoken, self.tokenizer)
        trained.resize_token_embeddings(len(self.tokenizer), mean_resizing=False)
        trained.get_input_embeddings().weight.data.copy_(words)
        return trained

    def _draw(self, album: Album, name: str) -> None:
        bar = _bar(self.bars, name, len(album))
        album.draw(self.args.runs / f"{name}.safetensors", workers=self.args.workers, progress=bar)

    def trainer(self, folder: Path) -> Trainer:
        """A trainer whose state lives in ``folder``."""
        packer = self.architecture.packer(self.tokenizer, rows=8, length=256)
        return Trainer(self.architecture, self.model, packer, folder, self.args.seed)

    def teach(
        self,
        trainer: Trainer,
        phases: list[Phase],
        gone: frozenset[str] = frozenset(),
        newcomers: frozenset[str] = frozenset(),
    ) -> None:
        """Run phases one after the other; people in ``gone`` do not occur. Pictures are drawn if any are needed."""
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
