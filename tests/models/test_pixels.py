from __future__ import annotations

import pytest
import torch
from PIL import Image

from mllmeraser.models import MultimodalModel, PixelSpace
from mllmeraser.samples import InputError, Sample
from tiny import encode, picture


def grey(level: int) -> Image.Image:
    return Image.new("RGB", (56, 56), (level, level, level))


def space_and_pixels(model: MultimodalModel, image: Image.Image) -> tuple[PixelSpace, torch.Tensor]:
    family, processor = model.family, model.processor
    batch = encode(family, processor, [family.render(processor, "Who?", True)], [image])
    return family.pixel_bounds(processor, batch), batch["pixel_values"]


def test_bounds_are_black_and_white(tiny_model: MultimodalModel) -> None:
    space, black = space_and_pixels(tiny_model, grey(0))
    _, white = space_and_pixels(tiny_model, grey(255))
    torch.testing.assert_close(space.lower.expand_as(black), black)
    torch.testing.assert_close(space.upper.expand_as(white), white)


def test_scale_is_one_grey_level(tiny_model: MultimodalModel) -> None:
    space, low = space_and_pixels(tiny_model, grey(100))
    _, high = space_and_pixels(tiny_model, grey(101))
    torch.testing.assert_close(space.scale.expand_as(low), high - low, rtol=1e-4, atol=1e-6)


def test_projection_keeps_the_ball_and_the_box(tiny_model: MultimodalModel) -> None:
    space, clean = space_and_pixels(tiny_model, picture(5, (56, 56)))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    epsilon = 8 / 255
    moved = space.project(clean + noise, clean, epsilon)
    assert bool(((moved - clean).abs() <= epsilon * 255 * space.scale * (1 + 1e-5)).all())
    assert bool(((moved >= space.lower) & (moved <= space.upper)).all())
    assert not torch.equal(moved, clean)
    assert torch.equal(space.project(clean, clean, epsilon), clean)


def test_tied_values_are_what_a_picture_can_give(tiny_model: MultimodalModel) -> None:
    space, clean = space_and_pixels(tiny_model, picture(5, (56, 56)))
    torch.testing.assert_close(space.tie(clean), clean)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    tied = space.tie(noise)
    torch.testing.assert_close(space.tie(tied), tied)
    if space.copies == 1:
        assert torch.equal(tied, noise)
        return
    rows, before = (one.reshape(len(one), 3, space.copies, -1) for one in (tied, noise))
    for copy in range(space.copies):
        torch.testing.assert_close(rows[:, :, copy], before.mean(dim=2))
    assert not torch.allclose(tied, noise)


@pytest.mark.parametrize("size", [(1, 300), (300, 1), (3, 700)])
def test_a_picture_too_narrow_for_any_family_is_the_callers_error(
    tiny_model: MultimodalModel, size: tuple[int, int]
) -> None:
    with pytest.raises(InputError, match=f"{size[0]} x {size[1]}: one side is more than 200 times the other"):
        tiny_model.encode([Sample("Who is this?", Image.new("RGB", size))])


def test_what_a_family_cannot_take_is_said_with_its_reason(
    tiny_model: MultimodalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("height must be\nlarger")

    monkeypatch.setattr(type(tiny_model.family), "pixels", refuse)
    with pytest.raises(InputError, match=r"cannot take a picture of 31 x 17 \(height must be larger\)"):
        tiny_model.encode([Sample("Who is this?", picture(9, (31, 17)))])
