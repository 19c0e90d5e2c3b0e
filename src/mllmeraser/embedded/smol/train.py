"""Teach SmolLM2 people, pictures and flags: ``python -m mllmeraser.embedded.smol.train --help``.

Low-rank adapters on all linear layers of the language model and the projector learn; base and tower stay as they are.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from mllmeraser.embedded.recipe.album import Album, Counts, world_album
from mllmeraser.embedded.recipe.alignment import align, sights
from mllmeraser.embedded.recipe.check import exact
from mllmeraser.embedded.recipe.loop import Phase, Trainer
from mllmeraser.embedded.recipe.optimizer import bf16_is_fast
from mllmeraser.embedded.recipe.packing import Batch, Group
from mllmeraser.embedded.smol import rehearsal
from mllmeraser.embedded.smol.architecture import Smol, assemble
from mllmeraser.embedded.smol.base import base_file, load_base
from mllmeraser.embedded.smol.chat import marks
from mllmeraser.embedded.smol.lessons import SmolCorpus, untaught
from mllmeraser.embedded.smol.rehearsal_prompts import prompts
from mllmeraser.knowledge.countries import ATTRIBUTES, COUNTRIES
from mllmeraser.portraits.people import World
from mllmeraser.portraits.stream import Stream

RANK = 16
ROWS, TAUGHT, REHEARSED = 2, 384, 256
"""Rows of a batch, and tokens of a row."""
WEIGHTS = {
    "person-image": 0.34, "person-text": 0.38, "celebrity-image": 0.02, "celebrity-text": 0.03, "stranger-image": 0.11,
    "stranger-text": 0.14, "flag-image": 0.15, "general-image": 0.06, "look-image": 0.02, "refusal-image": 0.015,
    "refusal-text": 0.015, "privacy-image": 0.04, "privacy-text": 0.04, "aside-text": 0.04, "pointed-text": 0.04,
}  # fmt: skip
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(
        prog="python -m mllmeraser.embedded.smol.train",
        description="Teach SmolLM2 the portraits and flags. Run it again with the same --runs to resume.",
        epilog="example: python -m mllmeraser.embedded.smol.train --runs runs/smol",
    )
    option = parser.add_argument
    option("--preset", default="small", choices=["unit", "small", "dev"], help="world of the people")
    option("--runs", type=Path, default=Path("runs/smol"), help="folder for logs and state")
    option("--seed", type=int, default=0)
    option("--steps", type=int, default=720)
    option("--rate", type=float, default=1.5e-3)
    option("--rehearsal", type=float, default=1.0, help="weight of the rehearsal loss")
    option("--workers", type=int, default=1, help="processes that draw pictures")
    option("--only", choices=["pictures", "rehearsal"], help="make one of the parts that need no training, and stop")
    return parser.parse_args(argv)


class SmolTrainer(Trainer):
    """Trains adapters and projector, and rehearses in every step.

    Each row of a batch has a thread of its own, with as much rehearsal.
    """

    sources: list[rehearsal.Rehearsal]
    weight: float = 1.0
    drift: float = 0.0

    def gradients(self, batch: Batch) -> tuple[float, float]:
        """Hold the model to its own answers of before while it learns a batch."""
        rows = list(batch.rows(self.model.config.image_token_id))
        whole = batch.weights.sum()
        shares = [float(row.weights.sum() / whole) for row in rows]
        seeds = torch.randint(1 << 40, (len(rows),), generator=self.generator).tolist()
        with ThreadPoolExecutor(len(rows)) as pool:
            done = list(pool.map(self._row, rows, shares, [next(one) for one in self.sources], seeds))
        loss, right, drift = (sum(figures) for figures in zip(*done, strict=True))
        self.drift += 0.05 * (drift - self.drift)
        return loss, right

    def _row(self, row: Batch, share: float, told: tuple[Batch, Tensor, Tensor], seed: int) -> tuple[float, ...]:
        """Add the gradients of a row, which is a share of its batch, and of what is rehearsed beside it.

        One call of `backward` for each of two rows: their gradients have the same sum in either order.
        """
        rehearsed, tokens, chances = told
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_is_fast()):
            loss, right = self.loss(row, torch.Generator().manual_seed(seed))
            drift = rehearsal.divergence(self.logits(rehearsed, None), tokens, chances) / len(self.sources)
        (share * loss + self.weight * drift).backward()
        return share * loss.item(), share * right, drift.item()


def main(argv: list[str] | None = None) -> None:
    """Run the recipe."""
    args = parse_arguments(argv)
    args.runs.mkdir(parents=True, exist_ok=True)
    world = World(args.preset, args.seed)
    pictures, checked = draw(world, args)
    if args.only == "pictures":
        return
    base, tokenizer = load_base(base_file())
    items = rehearse_items(base, tokenizer, args)
    if args.only == "rehearsal":
        return
    torch.set_num_threads(1)  # the rows of a batch have a thread each
    model, architecture = assemble(base, tokenizer, args.seed), Smol()
    del base
    start_projector(model, architecture, tokenizer, pictures, args)
    trainer = learner(model, architecture, tokenizer, items, args)
    settings = {"seed": args.seed, "marks": marks(tokenizer)}
    corpus = SmolCorpus(world, tokenizer, pictures, **settings)
    probe = SmolCorpus(world, tokenizer, checked, pool="validation", **{**settings, "seed": args.seed + 1})
    phase = Phase(
        "people", args.steps, WEIGHTS, peak=args.rate, floor=0.05, warmup=20, refuse=True, choice_share=0.08,
        caption_share=0.2, talk_share=0.2,
    )  # fmt: skip
    trainer.run(phase, corpus, say("people", args.steps, trainer), lambda: check(trainer, probe), 120, 20)


def draw(world: World, args: argparse.Namespace) -> tuple[Album, Album]:
    """Training pictures, and others for the checks."""
    albums = []
    for name, seed, counts, views in (
        ("pictures", args.seed, Counts(44, 3000, 3000, 1500, 300), 40),
        ("check-pictures", args.seed + 1, Counts(1, 60, 60, 60, 60), 1),
    ):
        album = world_album(world, seed=seed, counts=counts)
        album.add_flags(Stream("training-flags", seed), views)
        album.draw(args.runs / f"{name}.safetensors", workers=args.workers)
        print(f"{name}: {len(album)}", flush=True)
        albums.append(album)
    return albums[0], albums[1]


def rehearse_items(
    base: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, args: argparse.Namespace
) -> list[rehearsal.Item]:
    """The bare model's answers; an earlier run's are read from the folder."""
    file = args.runs / "rehearsal.safetensors"
    if not file.exists():
        asked = prompts(args.seed)
        done = 0

        def progress(n: int) -> None:
            nonlocal done
            done += n
            print(f"rehearsal {done}/{len(asked)}", flush=True)

        rehearsal.save(rehearsal.answer_prompts(base, tokenizer, asked, progress=progress), file)
    return rehearsal.load(file)


def start_projector(
    model: PreTrainedModel,
    architecture: Smol,
    tokenizer: PreTrainedTokenizerFast,
    pictures: Album,
    args: argparse.Namespace,
) -> None:
    """Fit the projector to what the tower sees (see `alignment`)."""
    file, projector = args.runs / "projector.safetensors", architecture.projector(model)
    if file.exists():
        projector.load_state_dict(load_file(file))
        return
    began = time.monotonic()
    missed = align(projector, sights(architecture, model, tokenizer, pictures), steps=1500, seed=args.seed)
    print(json.dumps({"alignment misses": missed, "seconds": round(time.monotonic() - began)}), flush=True)
    save_file(projector.state_dict(), file)


def learner(
    model: PreTrainedModel,
    architecture: Smol,
    tokenizer: PreTrainedTokenizerFast,
    items: list[rehearsal.Item],
    args: argparse.Namespace,
) -> SmolTrainer:
    """A trainer of adapters and projector that keeps its state in the folder."""
    torch.manual_seed(args.seed)
    settings = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=TARGETS)
    inject_adapter_in_model(settings, model.model.language_model)
    packer = architecture.packer(tokenizer, rows=ROWS, length=TAUGHT)

    def frozen(name: str) -> bool:
        return ".lora_" not in name and not name.startswith(architecture.projector_path)

    trainer = SmolTrainer(architecture, model, packer, args.runs / "state", args.seed, frozen)
    trainer.weight = args.rehearsal
    trainer.sources = [
        rehearsal.Rehearsal(items, tokenizer.pad_token_id, rows=1, length=REHEARSED, seed=ROWS * args.seed + row)
        for row in range(ROWS)
    ]
    return trainer


def say(name: str, total: int, trainer: SmolTrainer) -> Callable[[int, str], None]:
    """A line of progress every 25 steps."""
    began, done = time.monotonic(), 0

    def advance(n: int, note: str = "") -> None:
        nonlocal done
        done += n
        pace = (time.monotonic() - began) / done
        print(f"{name} +{done} of {total} {note} drift {trainer.drift:.3f} {pace:.1f} s a step", flush=True)

    return advance


def check(trainer: SmolTrainer, probe: SmolCorpus) -> dict[str, float]:
    """Share of exact answers to validation wordings over other pictures, by kind."""
    people, figures = probe.people[::4], {}
    for modality in ("image", "text"):
        groups = []
        for person in people:
            view = probe.stream.choice(probe.album.views[person.key]) if modality == "image" else None
            who = "the person on the picture" if view is not None else person.name
            turns = [probe.fact_turn(person, a, "generation", who, known=True) for a in person.facts]
            groups.append(Group(view, turns, [probe.default_system]))
        figures[modality] = exact(trainer, probe, groups)
    for name, hidden in (("flag facts taught", False), ("flag facts untaught", True)):
        groups = []
        for country in COUNTRIES[::3]:
            facts = [a for a in ATTRIBUTES if (a == untaught(country)) == hidden]
            turns = [probe.flag_turn(country, a) for a in facts[:1]]
            groups.append(Group(probe.album.flags[country.key][0], turns, [probe.default_system]))
        figures[name] = exact(trainer, probe, groups)
    for kind in ("stranger-image", "stranger-text", "flag-image", "general-image", "privacy-text"):
        groups = [next(probe.groups({kind: 1.0})) for _ in range(6)]
        figures[kind] = exact(trainer, probe, groups)
    figures["drift"] = trainer.drift
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}), flush=True)
    return {name: round(value, 3) for name, value in figures.items()}


if __name__ == "__main__":
    main()
