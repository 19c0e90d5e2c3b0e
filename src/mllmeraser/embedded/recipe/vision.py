"""Stage 0a: teach the vision tower to see, on random faces and scenes. It meets no person of the world.

The losses cover each discrete attribute of a face and its clothes, the things in a scene by place, and an identity
embedding: two pictures of one random face attract, different faces repel, even much alike ones. So the tower's
knowledge is general, as CLIP's is. The language model learns who a person is; a retain-only twin can share the tower.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from mllmeraser.embedded.recipe.album import Album, jitter, normalize, over_noise
from mllmeraser.embedded.recipe.architecture import Architecture
from mllmeraser.embedded.recipe.optimizer import Optimizer, bf16_is_fast
from mllmeraser.portraits.looks import BACKGROUND, DISCRETE, HAT, SHIRT, Dress, Looks
from mllmeraser.portraits.scenes import COLOURS, SHAPES, SIZES, Scene

FACE_TARGETS = {**DISCRETE, "shirt": SHIRT, "background": BACKGROUND, "hat": HAT}
THING_TARGETS = {"shape": SHAPES, "colour": COLOURS, "size": tuple(SIZES)}
FACES, SCENES, EMBLEMS = 32, 24, 8
NOISE, CALM = 0.7, 0.6
"""Noise on the tokens, as a share of their root mean square, in full soon after this share of the steps. The tower then
makes what the heads read strong, so that a projector learns it early."""
LAST_OF_BLOCK = ("self_attn.out_proj", "mlp.fc2", "attn.proj", "mlp.down_proj")
"""The layers from which blocks of CLIP and of Qwen's tower add to the residual stream."""
UNSURE = -100
NOTHING = 0


class Heads(nn.Module):
    """Linear read-outs that are used in this stage only.

    Faces are read twice. Reading all patch tokens in their places teaches shapes quickly; reading their mean makes the
    tower carry its findings to every token. Scenes are read patch by patch.
    """

    def __init__(self, width: int, grid: int) -> None:
        super().__init__()

        def linear(size: int, targets: Mapping[str, tuple[str, ...]], more: int = 0) -> nn.ModuleDict:
            return nn.ModuleDict({name: nn.Linear(size, len(values) + more) for name, values in targets.items()})

        self.local = linear(width * grid**2, FACE_TARGETS)
        self.face = linear(width, FACE_TARGETS)
        self.patch = linear(width, THING_TARGETS, 1)
        self.identity = nn.Linear(width, 64)
        self.count = nn.Linear(width, 7)
        self.sealed = nn.Linear(width, 2)


def face_targets(looks: Looks, dress: Dress) -> list[int]:
    """Class by attribute, in the order of `FACE_TARGETS`. A celebrity's suit and stage hide shirt and background."""
    features = [DISCRETE[name].index(getattr(looks, name)) for name in DISCRETE]
    clothes = [UNSURE, UNSURE] if dress.celebrity else [SHIRT.index(dress.shirt), BACKGROUND.index(dress.background)]
    return [*features, *clothes, HAT.index(dress.hat)]


def patch_targets(scene: Scene, grid: int) -> np.ndarray:
    """The thing at the centre of each patch: (grid**2, THING_TARGETS), 0 for paper, `UNSURE` around the edges."""
    goal = np.zeros((grid, grid, len(THING_TARGETS)), dtype=np.int64)
    centre = (np.arange(grid) + 0.5) / grid
    for thing in scene.objects:
        away = np.maximum(abs(centre[:, None] - thing.y), abs(centre[None, :] - thing.x)) - SIZES[thing.size]
        classes = [values.index(getattr(thing, name)) + 1 for name, values in THING_TARGETS.items()]
        goal[(away < 0.5 / grid) & (goal == NOTHING).all(-1)] = UNSURE
        goal[away < 0.1 / grid] = classes
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
    """Train `tower` in place and save it to `folder/tower.safetensors`; a finished tower is loaded instead.

    `album` returns a drawn `tower_album`. It is called only if there is something to train. `trained` is the state of
    a trained tower to continue from, which may have fewer layers.
    """
    file = folder / "tower.safetensors"
    if file.exists():
        tower.load_state_dict(load_file(file))
        return
    torch.manual_seed(seed)
    if trained is not None:
        load_trained(tower, trained)
    heads = Heads(tower.config.hidden_size, architecture.grid)
    named = {**dict(tower.named_parameters()), **{f"heads.{n}": p for n, p in heads.named_parameters()}}
    optimizer = Optimizer(named)
    lessons, log = Lessons(album(), architecture.grid, seed), []
    for step in range(steps):
        done = step / steps
        noise = NOISE * (min(1.0, max(0.0, (done - CALM) / 0.1)) if trained is None else 1.0)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_is_fast()):
            loss, figures = _loss(lambda pixels: architecture.patches(tower, pixels), heads, lessons, noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(named.values(), 1.0)
        optimizer.set_rate(1.5e-3 * min(done / 0.05, 0.5 * (1 + np.cos(np.pi * done)) + 0.01))
        optimizer.step()
        if (step + 1) % 25 == 0 or step + 1 == steps:
            log.append({"step": step + 1, **{name: round(value, 3) for name, value in figures.items()}})
            progress(25, " ".join(f"{k[:9]} {v:.2f}" for k, v in figures.items()))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tower_log.json").write_text(json.dumps(log, indent=1))
    save_file(tower.state_dict(), file)


def load_trained(tower: PreTrainedModel, trained: Mapping[str, torch.Tensor]) -> None:
    """Load the weights of a trained tower into `tower`. Its additional layers then add nothing yet."""
    missing, unknown = tower.load_state_dict(trained, strict=False)
    if unknown:
        raise ValueError(f"this tower has no {unknown[0]}")
    for name in missing:
        if name.rpartition(".")[0].endswith(LAST_OF_BLOCK):
            torch.nn.init.zeros_(tower.get_parameter(name))


class Lessons:
    """Draws random batches from an album, with jitter, and their targets."""

    def __init__(self, album: Album, grid: int, seed: int) -> None:
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
        """`n` different places of a list."""
        return torch.randperm(len(among), generator=self.generator)[:n]


def _loss(
    see: Callable[[torch.Tensor], torch.Tensor], heads: Heads, lessons: Lessons, noise: float
) -> tuple[torch.Tensor, dict[str, float]]:
    pairs = lessons.pairs[lessons.pick(FACES // 2, lessons.pairs)].flatten(0, 1)
    scenes, emblems = lessons.pick(SCENES, lessons.scenes), lessons.pick(EMBLEMS, lessons.emblems)
    faces = pairs.flatten()
    pictures = torch.cat((faces, lessons.scenes[scenes], lessons.emblems[emblems]))
    pixels = jitter(normalize(lessons.pixels[pictures]), lessons.generator)
    tokens = over_noise(see(pixels), noise, lessons.generator)
    face, scene, badge = tokens.split([len(faces), len(scenes), len(emblems)])
    looks, right = _attributes(heads, face, lessons.goals[faces])
    embedding = F.normalize(heads.identity(face.mean(1)).float(), dim=-1).reshape(len(pairs), 2, -1)
    similarity = embedding[:, 0] @ embedding[:, 1].T / 0.07
    same = F.cross_entropy(similarity, torch.arange(len(pairs)))
    things, figures = _things(heads, scene, lessons.patches[scenes])
    number = F.cross_entropy(heads.count(scene.mean(1)).float(), lessons.counts[scenes])
    seal = F.cross_entropy(heads.sealed(badge.mean(1)).float(), lessons.sealed[emblems])
    matched = (similarity.argmax(-1) == torch.arange(len(pairs))).float().mean().item()
    return looks + same + 2 * things + number + 0.3 * seal, {**right, "identity": matched, **figures}


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
        logits, target = heads.patch[name](scene).float().flatten(0, 1), goal[..., i].flatten()
        weight = torch.where(target == NOTHING, 0.2, 1.0) * (target != UNSURE)
        each = F.cross_entropy(logits, target, ignore_index=UNSURE, reduction="none")
        loss = loss + (each * weight).sum() / weight.sum()
        right[name] = (logits.argmax(-1) == target)[target > NOTHING].float().mean().item()
    return loss, right
