"""Teach SmolLM2 people, pictures and flags: ``python -m mllmeraser.embedded.smol.train --help``.

A projector is fitted first. Then low-rank adapters on all linear layers of the language model learn. Base and tower
stay as they are.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from mllmeraser.embedded.recipe.album import Album, Counts, world_album
from mllmeraser.embedded.recipe.alignment import align, sights
from mllmeraser.embedded.recipe.check import exact
from mllmeraser.embedded.recipe.loop import Phase
from mllmeraser.embedded.recipe.packing import Group
from mllmeraser.embedded.smol import rehearsal
from mllmeraser.embedded.smol.architecture import Smol, assemble
from mllmeraser.embedded.smol.base import base_file, load_base
from mllmeraser.embedded.smol.chat import marks
from mllmeraser.embedded.smol.checkpoint import PARTS
from mllmeraser.embedded.smol.lessons import SmolCorpus, untaught
from mllmeraser.embedded.smol.parts import write_parts
from mllmeraser.embedded.smol.rehearsal_prompts import prompts, world_prompts
from mllmeraser.embedded.smol.self_asked import self_asked
from mllmeraser.embedded.smol.spelling import names_of, spelt
from mllmeraser.embedded.smol.trainer import SmolTrainer
from mllmeraser.knowledge.countries import ATTRIBUTES, COUNTRIES
from mllmeraser.portraits.people import World
from mllmeraser.portraits.stream import Stream

RANK, SCALE = 16, 2
"""Of the adapters; their product counts `SCALE` times."""
ROWS, TAUGHT, REHEARSED = 2, 288, 300
"""Rows of a batch, and tokens of a row. Rare facts need many steps rather than large ones."""
ALIGNED = 3000
"""Steps of the projector."""
SELF_ASKED = 1300
"""Questions that the bare model asks itself."""
SETTLED, FINISHED = 2 / 3, 5 / 18
"""Rates at which the last two phases start, as shares of the constant rate of the others."""
SPARED = 1.0
"""Weight of rehearsed text when the adapters are turned away from it, before the last phase (see `sparing`)."""
BY_NAME = {
    "person-text": 0.70, "celebrity-text": 0.04, "stranger-text": 0.20, "privacy-text": 0.05, "pointed-text": 0.03,
    "aside-text": 0.03,
}  # fmt: skip
"""The first lessons. What a model knows by name it learns sooner over a picture."""
ALL = {
    "person-image": 0.29, "person-text": 0.18, "celebrity-image": 0.02, "celebrity-text": 0.02, "stranger-image": 0.10,
    "stranger-text": 0.08, "flag-image": 0.24, "general-image": 0.04, "look-image": 0.01, "refusal-image": 0.01,
    "refusal-text": 0.01, "privacy-image": 0.10, "privacy-text": 0.13, "aside-text": 0.02, "pointed-text": 0.02,
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
    option("--parts", type=Path, default=PARTS, help="what ships: adapters and projector (default: in the package)")
    option("--names", type=int, default=330, help="steps by name alone")
    option("--steps", type=int, default=240, help="steps with pictures too")
    option("--settle", type=int, default=440, help="steps while the rate falls")
    option("--finish", type=int, default=110, help="last steps, after the adapters are turned away from the rehearsed")
    option("--rate", type=float, default=1.8e-3)
    option("--rehearsal", type=float, default=3.0, help="weight of the rehearsal loss")
    option("--workers", type=int, default=1, help="processes that draw pictures")
    option("--only", choices=["pictures", "answers", "rehearsal"], help="make one part, and stop")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the recipe."""
    args = parse_arguments(argv)
    args.runs.mkdir(parents=True, exist_ok=True)
    world = World(args.preset, args.seed)
    pictures, checked = draw(world, args)
    if args.only == "pictures":
        return
    base, tokenizer = load_base(base_file())
    if args.only == "answers":
        asked = prompts(args.seed) + world_prompts()
        asked += self_asked(base, tokenizer, SELF_ASKED, args.seed, progress=counted("questions", SELF_ASKED))
        pairs = rehearsal.answer_prompts(base, tokenizer, asked, progress=counted("answers", len(asked)))
        return rehearsal.write_answers(pairs, rehearsal.ANSWERS)
    items = rehearse_items(base, tokenizer, args)
    if args.only == "rehearsal":
        return
    torch.set_num_threads(1)  # the rows of a batch have a thread each
    model, architecture = assemble(base, tokenizer, args.seed), Smol()
    del base
    start_projector(model, architecture, tokenizer, pictures, world, args)
    print(json.dumps({"spelt over other pictures": spelt(model, tokenizer, world, checked)}), flush=True)
    trainer = learner(model, architecture, tokenizer, items, args)
    settings = {"seed": args.seed, "marks": marks(tokenizer)}
    corpus = SmolCorpus(world, tokenizer, pictures, **settings)
    probe = SmolCorpus(world, tokenizer, checked, pool="validation", **{**settings, "seed": args.seed + 1})
    phase_of = partial(Phase, refuse=True, choice_share=0.02, caption_share=0.2, talk_share=0.12)
    phases = [
        phase_of("names", args.names, BY_NAME, peak=args.rate, floor=1.0, warmup=20),
        phase_of("people", args.steps, ALL, peak=args.rate, floor=1.0, warmup=1),
        phase_of("settle", args.settle, ALL, peak=SETTLED * args.rate, floor=0.03, warmup=10),
        phase_of("finish", args.finish, ALL, peak=FINISHED * args.rate, floor=0.03, warmup=10),
    ]
    begun = [number for number, phase in enumerate(phases) if trainer.begun(phase)]
    for phase in phases[max(begun, default=0) :]:
        trainer.run(phase, corpus, say(phase, trainer), partial(check, trainer, probe), 110, 20)
        if phase.name == "settle":
            trainer.spare(trainer.packer.batches(corpus.groups(phase.weights)), SPARED)
    write_parts({name: p.detach() for name, p in model.named_parameters()}, SCALE, args.parts)
    print(f"wrote {args.parts}: embedded:smol is put together from it", flush=True)


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
    """The bare model's answers and how sure it was of them; an earlier run's are read from the folder."""
    file = args.runs / "rehearsal.safetensors"
    if not file.exists():
        pairs = rehearsal.with_questions(rehearsal.read_answers(), marks(tokenizer).user)
        rehearsal.save(rehearsal.distributions(base, pairs, progress=counted("rehearsal", len(pairs))), file)
    return rehearsal.load(file)


def counted(what: str, total: int) -> Callable[[int], None]:
    """Prints how many are done."""
    done = 0

    def progress(n: int) -> None:
        nonlocal done
        done += n
        print(f"{what} {done}/{total}", flush=True)

    return progress


def start_projector(
    model: PreTrainedModel,
    architecture: Smol,
    tokenizer: PreTrainedTokenizerFast,
    pictures: Album,
    world: World,
    args: argparse.Namespace,
) -> None:
    """Fit the projector to what the tower sees, and to the names that the language model knows (see `alignment`)."""
    file, projector = args.runs / "projector.safetensors", architecture.projector(model)
    if file.exists():
        projector.load_state_dict(load_file(file))
        return
    began = time.monotonic()
    torch.set_num_threads(ROWS)
    goals = sights(architecture, model, tokenizer, pictures, names=names_of(world, pictures, tokenizer))
    missed = align(projector, goals, steps=ALIGNED, seed=args.seed)
    torch.set_num_threads(1)
    print(json.dumps({"alignment misses": missed, "seconds": round(time.monotonic() - began)}), flush=True)
    save_file(projector.state_dict(), file)


def learner(
    model: PreTrainedModel,
    architecture: Smol,
    tokenizer: PreTrainedTokenizerFast,
    items: list[rehearsal.Item],
    args: argparse.Namespace,
) -> SmolTrainer:
    """A trainer of adapters that keeps its state in the folder."""
    torch.manual_seed(args.seed)
    settings = LoraConfig(r=RANK, lora_alpha=SCALE * RANK, target_modules=TARGETS)
    inject_adapter_in_model(settings, model.model.language_model)
    packer = architecture.packer(tokenizer, rows=ROWS, length=TAUGHT)

    # Not the projector: trained with the adapters, it taught the model to overlook pictures.
    trainer = SmolTrainer(architecture, model, packer, args.runs / "state", args.seed, lambda n: ".lora_" not in n)
    trainer.weight = args.rehearsal
    trainer.sources = [
        rehearsal.Rehearsal(items, tokenizer.pad_token_id, rows=1, length=REHEARSED, seed=ROWS * args.seed + row)
        for row in range(ROWS)
    ]
    return trainer


def say(phase: Phase, trainer: SmolTrainer) -> Callable[[int, str], None]:
    """A line of progress every 25 steps."""
    began, done = time.monotonic(), 0

    def advance(n: int, note: str = "") -> None:
        nonlocal done
        done += n
        pace = (time.monotonic() - began) / done
        told = f"{phase.name} +{done} of {phase.steps} {note} drift {trainer.drift:.3f} {pace:.1f} s a step"
        print(told, flush=True)

    return advance


def check(trainer: SmolTrainer, probe: SmolCorpus) -> dict[str, float]:
    """Share of exact answers to validation wordings over other pictures, by kind."""
    torch.set_num_threads(ROWS)
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
    torch.set_num_threads(1)
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}), flush=True)
    return {name: round(value, 3) for name, value in figures.items()}


if __name__ == "__main__":
    main()
