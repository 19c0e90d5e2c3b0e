"""Stage 0a: teach the vision tower to see, on random faces and scenes. It never meets a person of the world.

Losses: every discrete attribute of a face and of its clothes, what stands where in a scene, and an identity embedding
(two pictures of one random face attract, different faces repel, among them one that is much alike). So what the tower
knows is general, as CLIP is: the language model learns who somebody is, and a retain-only twin may share the tower.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from mllmeraser.embedded.recipe.album import Album
from mllmeraser.embedded.recipe.architecture import Architecture
from mllmeraser.embedded.recipe.noise import over_noise
from mllmeraser.embedded.recipe.optimizer import Optimizer
from mllmeraser.embedded.recipe.pictures import jitter, normalise
from mllmeraser.embedded.recipe.precision import bf16_is_fast
from mllmeraser.portraits.looks import BACKGROUND, DISCRETE, HAT, SHIRT, Dress, Looks
from mllmeraser.portraits.scenes import COLOURS, SHAPES, SIZES, Scene

FACE_TARGETS = {**DISCRETE, "shirt": SHIRT, "background": BACKGROUND, "hat": HAT}
THING_TARGETS = {"shape": SHAPES, "colour": COLOURS, "size": tuple(SIZES)}
FACES, SCENES, EMBLEMS = 32, 24, 8
NOISE, CALM = 0.7, 0.6
"""Noise on the tokens that are read out, beside their root mean square, in full soon after this share of the steps:
what has to be heard over it is said aloud, and a projector finds it at once."""
LAST_OF_BLOCK = ("self_attn.out_proj", "mlp.fc2", "attn.proj", "mlp.down_proj")
"""What the blocks of CLIP and of Qwen's tower add to the residual stream comes out of these."""
UNSURE = -100
NOTHING = 0


class Heads(nn.Module):
    """Linear read-outs, thrown away after the stage.

    Faces are read twice: from all patch tokens in their places, which teaches shapes quickly, and from their mean,
    which makes the tower carry what it saw to every token. Scenes are read patch by patch.
    """

    def __init__(self, width: int, grid: int) -> None:
        """``width`` of the tower, ``grid`` patches a side."""
        super().__init__()
        self.local = nn.ModuleDict(
            {name: nn.Linear(width * grid**2, len(values)) for name, values in FACE_TARGETS.items()}
        )
        self.face = nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in FACE_TARGETS.items()})
        self.patch = nn.ModuleDict({name: nn.Linear(width, len(values) + 1) for name, values in THING_TARGETS.items()})
        self.identity = nn.Linear(width, 64)
        self.count = nn.Linear(width, 7)
        self.sealed = nn.Linear(width, 2)


def face_targets(looks: Looks, dress: Dress) -> list[int]:
    """Class by attribute, in the order of ``FACE_TARGETS``; the suit and the stage of a celebrity hide two of them."""
    shown = [DISCRETE[name].index(getattr(looks, name)) for name in DISCRETE]
    clothes = [UNSURE, UNSURE] if dress.celebrity else [SHIRT.index(dress.shirt), BACKGROUND.index(dress.background)]
    return [*shown, *clothes, HAT.index(dress.hat)]


def patch_targets(scene: Scene, grid: int) -> np.ndarray:
    """What covers the centre of each patch: (grid**2, THING_TARGETS), 0 for paper, ``UNSURE`` around the edges."""
    goal = np.zeros((grid, grid, len(THING_TARGETS)), dtype=np.int64)
    centre = (np.arange(grid) + 0.5) / grid
    for thing in scene.objects:
        away = np.maximum(abs(centre[:, None] - thing.y), abs(centre[None, :] - thing.x)) - SIZES[thing.size]
        named = [values.index(getattr(thing, name)) + 1 for name, values in THING_TARGETS.items()]
        goal[(away < 0.5 / grid) & (goal == NOTHING).all(-1)] = UNSURE
        goal[away < 0.1 / grid] = named
    return goal.reshape(grid**2, -1)


def train_tower(
    architecture: Architecture,
    tower: PreTrainedModel,
    album: Callable[[], Album],
    folder: Path,
    *,
    steps: int,
    seed: int,
    progress: Callable[[int, str], None],
    trained: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Train ``tower`` in place and save it to ``folder/tower.safetensors``; a finished tower is loaded instead.

    ``album`` gives a drawn ``tower_album``; it is only asked for one if there is something to train. ``trained`` is
    the state of a trained tower to go on from, which may have fewer layers.
    """
    done = folder / "tower.safetensors"
    if done.exists():
        tower.load_state_dict(load_file(done))
        return
    torch.manual_seed(seed)
    if trained is not None:
        go_on(tower, trained)
    heads = Heads(tower.config.hidden_size, architecture.grid)
    named = {**dict(tower.named_parameters()), **{f"heads.{n}": p for n, p in heads.named_parameters()}}
    optimizer = Optimizer(named)
    lessons, log = Lessons(album(), architecture.grid, seed), []
    for step in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_is_fast()):
            see = partial(architecture.patches, tower)
            noise = _noise(step / steps) if trained is None else NOISE
            loss, figures = _loss(see, heads, lessons, noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(named.values(), 1.0)
        optimizer.set_rate(_rate(step / steps))
        optimizer.step()
        if (step + 1) % 25 == 0 or step + 1 == steps:
            log.append({"step": step + 1, **{name: round(value, 3) for name, value in figures.items()}})
            progress(25, " ".join(f"{k[:9]} {v:.2f}" for k, v in figures.items()))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tower_log.json").write_text(json.dumps(log, indent=1))
    save_file(tower.state_dict(), done)


def go_on(tower: PreTrainedModel, trained: Mapping[str, torch.Tensor]) -> None:
    """Give ``tower`` the weights of a trained one; layers that it has on top of those add nothing yet."""
    lacking, unknown = tower.load_state_dict(trained, strict=False)
    if unknown:
        raise ValueError(f"this tower has no {unknown[0]}")
    for name in lacking:
        if name.rpartition(".")[0].endswith(LAST_OF_BLOCK):
            torch.nn.init.zeros_(tower.get_parameter(name))


def _rate(done: float, peak: float = 1.5e-3, warmup: float = 0.05) -> float:
    return peak * min(done / warmup, 0.5 * (1 + np.cos(np.pi * done)) + 0.01)


def _noise(done: float) -> float:
    return NOISE * min(1.0, max(0.0, (done - CALM) / 0.1))


class Lessons:
    """Draws batches from an album, moved and tinted a little each time, with what they show."""

    def __init__(self, album: Album, grid: int, seed: int) -> None:
        """The same album and seed give the same batches."""
        self.pixels = album.pixels
        self.pairs = torch.tensor(list(album.views.values())).unflatten(0, (-1, 2))  # (two faces much alike, views)
        self.goals = torch.tensor([face_targets(*album.portraits[i]) for i in range(self.pairs.numel())])
        self.scenes = torch.tensor(album.scenes)
        self.patches = torch.tensor(np.stack([patch_targets(scene, grid) for scene in album.things.values()]))
        self.counts = torch.tensor([len(scene.objects) for scene in album.things.values()])
        self.emblems = torch.tensor(album.emblems)
        self.sealed = torch.tensor(list(album.sealed.values())).long()
        self.generator = torch.Generator().manual_seed(seed)

    def pick(self, n: int, among: torch.Tensor) -> torch.Tensor:
        """``n`` different places of a list."""
        return torch.randperm(len(among), generator=self.generator)[:n]

    def show(self, *indices: torch.Tensor) -> torch.Tensor:
        """Pixel values of pictures."""
        return jitter(normalise(self.pixels[torch.cat(indices)]), self.generator)


def _loss(
    see: Callable[[torch.Tensor], torch.Tensor], heads: Heads, lessons: Lessons, noise: float
) -> tuple[torch.Tensor, dict[str, float]]:
    pairs = lessons.pairs[lessons.pick(FACES // 2, lessons.pairs)].flatten(0, 1)
    scenes, emblems = lessons.pick(SCENES, lessons.scenes), lessons.pick(EMBLEMS, lessons.emblems)
    faces = pairs.flatten()
    pixels = lessons.show(faces, lessons.scenes[scenes], lessons.emblems[emblems])
    tokens = over_noise(see(pixels), noise, lessons.generator)
    face, scene, badge = tokens.split([len(faces), len(scenes), len(emblems)])
    looks, right = _attributes(heads, face, lessons.goals[faces])
    embedding = F.normalize(heads.identity(face.mean(1)).float(), dim=-1).reshape(len(pairs), 2, -1)
    similarity = embedding[:, 0] @ embedding[:, 1].T / 0.07
    same = F.cross_entropy(similarity, torch.arange(len(pairs)))
    things, seen = _things(heads, scene, lessons.patches[scenes])
    number = F.cross_entropy(heads.count(scene.mean(1)).float(), lessons.counts[scenes])
    seal = F.cross_entropy(heads.sealed(badge.mean(1)).float(), lessons.sealed[emblems])
    matched = (similarity.argmax(-1) == torch.arange(len(pairs))).float().mean().item()
    return looks + same + 2 * things + number + 0.3 * seal, {**right, "identity": matched, **seen}


def _attributes(heads: Heads, face: torch.Tensor, goal: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
    loss, right = torch.zeros(()), {}
    placed, pooled = face.flatten(1), face.mean(1)
    for i, name in enumerate(FACE_TARGETS):
        logits = heads.face[name](pooled).float()
        loss = loss + F.cross_entropy(logits, goal[:, i], ignore_index=UNSURE)
        loss = loss + F.cross_entropy(heads.local[name](placed).float(), goal[:, i], ignore_index=UNSURE)
        right[name] = (logits.argmax(-1) == goal[:, i])[goal[:, i] != UNSURE].float().mean().item()
    return loss, right


def _things(heads: Heads, scene: torch.Tensor, goal: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
    loss, right = torch.zeros(()), {}
    for i, name in enumerate(THING_TARGETS):
        logits, wanted = heads.patch[name](scene).float().flatten(0, 1), goal[..., i].flatten()
        weight = torch.where(wanted == NOTHING, 0.2, 1.0) * (wanted != UNSURE)
        each = F.cross_entropy(logits, wanted, ignore_index=UNSURE, reduction="none")
        loss = loss + (each * weight).sum() / weight.sum()
        right[name] = (logits.argmax(-1) == wanted)[wanted > NOTHING].float().mean().item()
    return loss, right
