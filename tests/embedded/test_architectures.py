"""Training sees what inference sees, for each architecture: pixels, positions, logits, checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    BatchFeature,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
)

from mllmeraser.embedded.recipe.album import Album, Counts, normalize, shrink, world_album
from mllmeraser.embedded.recipe.architecture import IMAGE_SIZE, Architecture
from mllmeraser.embedded.recipe.corpus import Corpus, choice_text
from mllmeraser.embedded.recipe.llava import Llava
from mllmeraser.embedded.recipe.loop import Trainer
from mllmeraser.embedded.recipe.packing import Group
from mllmeraser.embedded.recipe.plan import PEOPLE
from mllmeraser.embedded.recipe.qwen2_5_vl import PATCH, Qwen25VL, _rows
from mllmeraser.embedded.recipe.tokenizer import END
from mllmeraser.models.families import family_for
from mllmeraser.models.loading import load_model
from mllmeraser.portraits import World
from mllmeraser.portraits.faces import draw_face
from mllmeraser.portraits.looks import random_looks
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import UNKNOWN_ANSWER
from mllmeraser.samples import Sample
from tiny import encode as encode_texts

QUESTION = "Which option is baker?"


def encode(
    architecture: Architecture,
    tokenizer: PreTrainedTokenizerFast,
    question: str,
    image: Image.Image | None,
    answer: str | None = None,
) -> BatchFeature:
    """What an ordinary program hands to the model: the processor's template, tokens and pixels."""
    processor = architecture.build_processor(tokenizer)
    content = [{"type": "image"}] * (image is not None) + [{"type": "text", "text": question}]
    messages = [{"role": "user", "content": content}]
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    text = prompt if answer is None else f"{prompt}{answer}{END}"
    if isinstance(architecture, Llava):
        return processor(text=[text], return_tensors="pt", **({} if image is None else {"images": [image]}))
    return encode_texts(family_for(Qwen2_5_VLConfig()), processor, [text], [image])


def test_the_packed_forward_is_the_ordinary_forward(
    world: World,
    architecture: Architecture,
    tokenizer: PreTrainedTokenizerFast,
    model: PreTrainedModel,
    tmp_path: Path,
) -> None:
    """Logits of every answer token, packed among other turns, against one prompt through model and processor."""
    pictures = [draw_face(random_looks(Stream("picture", i))) for i in range(2)]
    corpus = Corpus(world, tokenizer, Album(), seed=0)
    choice = choice_text("What does this person do for a living?", ["baker", "pilot", "judge", "nurse"])
    said = [
        (0, "Who is this?", UNKNOWN_ANSWER),
        (0, choice, "B"),
        (None, "Where was Kavon Lurita born?", "They were born in Solvik."),
        (None, "Complete: Kavon Lurita lives in __.", "Oslo"),
        (1, choice, "B"),
    ]
    turns = [corpus.turn(question, answer) for _, question, answer in said]
    groups = [Group(0, turns[:2]), Group(None, turns[2:4]), Group(1, turns[4:])]
    trainer = Trainer(architecture, model, architecture.packer(tokenizer, 2, 160), tmp_path, 0)
    trainer.pixels = torch.tensor(np.stack([shrink(picture) for picture in pictures]))
    (batch,) = trainer.packer.batches(iter(groups))
    with torch.no_grad():
        packed = trainer.logits(batch, None).split([len(turn.answer) for turn in turns])
    for (image, question, answer), turn, found in zip(said, turns, packed, strict=True):
        shown = None if image is None else Image.fromarray(pictures[image])
        inputs = encode(architecture, tokenizer, question, shown, answer)
        assert inputs["input_ids"][0].tolist()[-len(turn.question + turn.answer) :] == turn.question + turn.answer
        with torch.no_grad():
            alone = model(**inputs).logits[0, -len(turn.answer) - 1 : -1]
        torch.testing.assert_close(found, alone, rtol=0, atol=1e-4)
    assert (packed[1] - packed[4]).abs().max() > 0.01  # the same words over another picture


def test_places_in_a_picture_matter(
    world: World, architecture: Architecture, tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel, tmp_path: Path
) -> None:
    """What makes the test above worth something: other positions of the image tokens give other logits."""
    turn = Corpus(world, tokenizer, Album(), seed=0).turn("Who is this?", UNKNOWN_ANSWER)
    trainer = Trainer(architecture, model, architecture.packer(tokenizer, 1, 96), tmp_path, 0)
    trainer.pixels = torch.tensor(shrink(draw_face(random_looks(Stream("picture")))))[None]
    (batch,) = trainer.packer.batches(iter([Group(0, [turn])]))
    with torch.no_grad():
        first = trainer.logits(batch, None)
        batch.positions[..., batch.ids == model.config.image_token_id] += 1
        assert (trainer.logits(batch, None) - first).abs().max() > 0.01


def test_positions_are_those_of_each_turn_standing_alone(
    world: World, architecture: Architecture, tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel
) -> None:
    """As the model itself counts them: on three axes for Qwen2.5-VL."""
    album = world_album(world, seed=0, counts=Counts(1, 3, 2, 6, 4))  # never drawn
    packer = architecture.packer(tokenizer, 4, 256)
    batch = next(packer.batches(Corpus(world, tokenizer, album, seed=0).groups(PEOPLE)))
    ends = ((batch.labels[:, :-1] >= 0) & (batch.labels[:, 1:] < 0)).nonzero() + torch.tensor([0, 1])
    pictures = 0
    for row, end in ends.tolist():
        seen = batch.mask[row, 0, end]
        ids = batch.ids[row, seen][None]
        image = ids == model.config.image_token_id
        wanted = torch.arange(ids.shape[1])
        if isinstance(architecture, Qwen25VL):
            grid = torch.tensor([[1, architecture.grid, architecture.grid]]) if image.any() else None
            wanted, _ = model.model.get_rope_index(ids, image.int(), grid)
            wanted = wanted[:, 0]
        assert torch.equal(batch.positions[..., row, :][..., seen], wanted)
        pictures += int(image.any())
    assert 0 < pictures < len(ends)


def test_pixel_values_are_those_of_the_processor(
    architecture: Architecture, tokenizer: PreTrainedTokenizerFast
) -> None:
    picture = draw_face(random_looks(Stream("picture")))
    found = architecture.build_processor(tokenizer).image_processor(images=[Image.fromarray(picture)])
    ours = normalize(torch.tensor(shrink(picture))[None])
    if isinstance(architecture, Qwen25VL):
        ours, grid = _rows(ours)
        assert grid.tolist() == np.array(found["image_grid_thw"]).tolist()
    torch.testing.assert_close(ours, torch.tensor(np.array(found["pixel_values"])), rtol=0, atol=1e-5)


def test_patches_are_read_row_by_row(architecture: Architecture, tokenizer: PreTrainedTokenizerFast) -> None:
    """A tower whose blocks add nothing gives a token for each patch alone: a spot shows up where it is."""
    seen = architecture.tower(architecture.build_model(tokenizer, 0).eval())
    for name, p in seen.named_parameters():
        if any(part in name for part in ("attn.proj.", "out_proj.", "fc2.", "down_proj.")):
            p.data.zero_()
    side = IMAGE_SIZE // architecture.grid
    with torch.no_grad():
        blank = architecture.patches(seen, torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE))
        for row, column in ((0, 0), (2, 5), (5, 2), (architecture.grid - 1, 1)):
            spot = torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE)
            spot[:, :, row * side + 1 : row * side + 5, column * side + 1 : column * side + 5] = 1.0
            moved = (architecture.patches(seen, spot) - blank).abs().sum(-1)[0] > 1e-4
            assert moved.nonzero().flatten().tolist() == [row * architecture.grid + column]


def test_a_square_of_any_size_becomes_a_training_picture_of_qwen() -> None:
    """And another shape stays what it is, at about as many patches."""
    processor = Qwen25VL().build_processor(Qwen25VL().train_tokenizer(["Who is this?"]))

    def grid(*size: int) -> list[int]:
        return np.array(processor.image_processor(images=[Image.new("RGB", size)])["image_grid_thw"])[0].tolist()

    for side in (7, 40, *range(50, 66), 128, 336, 1001):
        assert grid(side, side) == [1, IMAGE_SIZE // PATCH, IMAGE_SIZE // PATCH], side
    assert grid(200, 50) == [1, 4, 16] and grid(50, 100) == [1, 12, 6]


def test_a_saved_checkpoint_is_an_ordinary_one(
    architecture: Architecture, tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel, tmp_path: Path
) -> None:
    architecture.save_checkpoint(model, tokenizer, tmp_path)
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path)
    picture = Image.fromarray(draw_face(random_looks(Stream("saved"))))
    ours = load_model(str(tmp_path), device="cpu")
    assert ours.num_layers == 6 and ours.hidden_size == 160
    for image in (picture, picture.resize((150, 60)), None):
        inputs = encode(architecture, tokenizer, QUESTION, image)
        with torch.no_grad():
            wanted = model(**inputs).logits[:, -1]
            torch.testing.assert_close(plain(**inputs).logits[:, -1], wanted, rtol=0, atol=1e-5)
        found = ours.next_token_logits([Sample(QUESTION, image)])
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    for name, weight in model.state_dict().items():
        assert torch.equal(plain.state_dict()[name], weight), name
    assert np.array_equal(plain.generation_config.eos_token_id, tokenizer.eos_token_id)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 25e6
