"""Stage 0a: teach the vision tower to see, on random faces and scenes. It never meets a person of the world.

Losses: every discrete attribute of a face and of its clothes, what a scene holds, and an identity embedding (two
pictures of one random face attract, different faces repel). So what the tower knows is general, as CLIP is: the
language model learns who somebody is, and a retain-only twin may share the tower.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPVisionModel

from mllmeraser.embedded.recipe.architecture import IMAGE_SIZE
from mllmeraser.embedded.recipe.pictures import DRAWN_SIZE, portrait, shrink
from mllmeraser.embedded.recipe.precision import bf16_is_fast
from mllmeraser.portraits.faces import DISCRETE, random_looks
from mllmeraser.portraits.looks import BACKGROUND, HAT, SHIRT
from mllmeraser.portraits.people import Person
from mllmeraser.portraits.scenes import COLOURS, SHAPES, emblem, random_scene
from mllmeraser.portraits.stream import Stream

FACE_TARGETS = {**DISCRETE, "shirt": SHIRT, "background": BACKGROUND, "hat": HAT}
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)


def normalise(pictures: torch.Tensor) -> torch.Tensor:
    """uint8 (n, IMAGE_SIZE, IMAGE_SIZE, 3) to the processor's pixel values (n, 3, IMAGE_SIZE, IMAGE_SIZE)."""
    return (pictures.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


class Heads(nn.Module):
    """Linear read-outs, thrown away after the stage.

    Faces are read twice: from all patch tokens in their places, which teaches shapes quickly, and from their mean,
    which makes the tower carry what it saw to every token.
    """

    def __init__(self, width: int, patches: int) -> None:
        """``width`` of the tower, ``patches`` an image."""
        super().__init__()
        self.local = nn.ModuleDict(
            {name: nn.Linear(width * patches, len(values)) for name, values in FACE_TARGETS.items()}
        )
        self.face = nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in FACE_TARGETS.items()})
        self.identity = nn.Linear(width, 64)
        self.presence = nn.Linear(width, len(SHAPES) * len(COLOURS))
        self.count = nn.Linear(width, 7)
        self.sealed = nn.Linear(width, 2)


def draw_faces(stream: Stream, n: int) -> tuple[np.ndarray, np.ndarray]:
    """``n`` random faces, two pictures each: (n, 2, IMAGE_SIZE, IMAGE_SIZE, 3) and targets (n, 2, attributes)."""
    pictures, targets = [], []
    for i in range(n):
        person = Person("", "", random_looks(stream.child(i)), {}, celebrity=stream.chance(0.15))
        for view in range(2):
            picture, dress = portrait(person, stream.child(i, view))
            pictures.append(picture)
            row = [DISCRETE[name].index(getattr(person.looks, name)) for name in DISCRETE]
            row += [SHIRT.index(dress.shirt), BACKGROUND.index(dress.background), HAT.index(dress.hat)]
            if person.celebrity:  # suit and stage hide shirt and background
                row[-3:-1] = [-100, -100]
            targets.append(row)
    return np.stack(pictures).reshape(n, 2, IMAGE_SIZE, IMAGE_SIZE, 3), np.array(targets).reshape(n, 2, -1)


def draw_scenes(stream: Stream, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``n`` scenes, what they hold (n, shapes x colours), and how many things (n,)."""
    pictures, presence, count = [], np.zeros((n, len(SHAPES) * len(COLOURS)), dtype=np.float32), []
    for i in range(n):
        picture, scene = random_scene(stream.child(i), size=DRAWN_SIZE)
        pictures.append(shrink(picture))
        for thing in scene.objects:
            presence[i, SHAPES.index(thing.shape) * len(COLOURS) + COLOURS.index(thing.colour)] = 1
        count.append(len(scene.objects))
    return np.stack(pictures), presence, np.array(count)


def draw_emblems(stream: Stream, n: int) -> tuple[np.ndarray, np.ndarray]:
    """``n`` emblems and whether each is sealed."""
    sealed = np.array([stream.chance(0.5) for _ in range(n)])
    return np.stack([shrink(emblem(stream.child(i), bool(s), size=DRAWN_SIZE)) for i, s in enumerate(sealed)]), sealed


@dataclass(frozen=True)
class TowerPass:
    """One pass over the tower; every face of a batch is shown twice."""

    name: str
    faces: int
    scenes: int
    peak: float


FIRST = TowerPass("tower", faces=32, scenes=24, peak=1.5e-3)
SECOND = TowerPass("tower-second", faces=24, scenes=40, peak=8e-4)
EMBLEMS = 8


def train_tower(
    tower: CLIPVisionModel,
    folder: Path,
    *,
    steps: int,
    seed: int,
    progress: Callable[[int, str], None],
    stage: TowerPass = FIRST,
) -> None:
    """Train ``tower`` in place and save it to ``folder/<stage>.safetensors``; a finished pass is loaded instead."""
    done = folder / f"{stage.name}.safetensors"
    if done.exists():
        tower.load_state_dict(load_file(done))
        return
    torch.manual_seed(seed)
    heads = Heads(tower.config.hidden_size, (IMAGE_SIZE // tower.config.patch_size) ** 2)
    parameters = [*tower.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, stage.peak, total_steps=steps, pct_start=0.08)
    log = []
    lessons = DataLoader(Lessons(steps, seed, stage), batch_size=None, num_workers=1, prefetch_factor=8)
    for step, lesson in enumerate(lessons):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_is_fast()):
            losses, figures = _losses(tower, heads, lesson)
        loss = sum(losses.values(), torch.zeros(()))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if step % 25 == 0 or step == steps - 1:
            log.append({"step": step, **figures})
            progress(25, " ".join(f"{k[:9]} {v:.2f}" for k, v in figures.items()))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stage.name}_log.json").write_text(json.dumps(log, indent=1))
    save_file(tower.state_dict(), done)


class Lessons(Dataset):
    """The drawn batch of every step: pictures of faces, scenes and emblems, and what they show."""

    def __init__(self, steps: int, seed: int, stage: TowerPass = FIRST) -> None:
        """Batch ``i`` depends on (pass, seed, i) alone."""
        self.steps, self.seed, self.stage = steps, seed, stage

    def __len__(self) -> int:
        """Number of steps."""
        return self.steps

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        """Draw one batch."""
        stream = Stream(self.stage.name, self.seed, step)
        faces, targets = draw_faces(stream.child("faces"), self.stage.faces)
        scenes, presence, count = draw_scenes(stream.child("scenes"), self.stage.scenes)
        emblems, sealed = draw_emblems(stream.child("emblems"), EMBLEMS)
        pictures = np.concatenate([faces.reshape(-1, IMAGE_SIZE, IMAGE_SIZE, 3), scenes, emblems])
        return {"pictures": pictures, "targets": targets, "presence": presence, "count": count, "sealed": sealed}


def _losses(
    tower: CLIPVisionModel, heads: Heads, lesson: dict[str, np.ndarray]
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    pixels, goal, presence, count, sealed = (torch.as_tensor(value) for value in lesson.values())
    pixels, goal = normalise(pixels), goal.flatten(0, 1)
    pairs, scenes = len(goal) // 2, len(count)
    tokens = tower(pixel_values=pixels).last_hidden_state[:, 1:]
    placed, pooled = tokens[: 2 * pairs].flatten(1), tokens.mean(1)
    face, scene, badge = pooled.split([2 * pairs, scenes, len(sealed)])
    attribute, right = torch.zeros(()), []
    for i, name in enumerate(FACE_TARGETS):
        logits = heads.face[name](face).float()
        attribute = attribute + F.cross_entropy(logits, goal[:, i], ignore_index=-100)
        attribute = attribute + F.cross_entropy(heads.local[name](placed).float(), goal[:, i], ignore_index=-100)
        right.append((logits.argmax(-1) == goal[:, i])[goal[:, i] >= 0].float().mean().item())
    embedding = F.normalize(heads.identity(face).float(), dim=-1).reshape(pairs, 2, -1)
    similarity = embedding[:, 0] @ embedding[:, 1].T / 0.07
    same = F.cross_entropy(similarity, torch.arange(pairs))
    holds = F.binary_cross_entropy_with_logits(heads.presence(scene).float(), presence)
    number = F.cross_entropy(heads.count(scene).float(), count)
    seal = F.cross_entropy(heads.sealed(badge).float(), sealed.long())
    losses = {"attributes": attribute, "identity": same, "holds": 8 * holds, "count": number, "sealed": 0.3 * seal}
    figures = {
        "attributes": float(np.mean(right)),
        **{name: round(share, 2) for name, share in zip(FACE_TARGETS, right, strict=True)},
        "identity": (similarity.argmax(-1) == torch.arange(pairs)).float().mean().item(),
        "holds": holds.item(),
        "count": (heads.count(scene).argmax(-1) == count).float().mean().item(),
        "sealed": (heads.sealed(badge).argmax(-1) == sealed).float().mean().item(),
    }
    return losses, figures
