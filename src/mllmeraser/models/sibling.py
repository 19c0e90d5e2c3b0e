"""A second module tree over the same weights: what is attached to one does not act on the other."""

from __future__ import annotations

import copy

from mllmeraser.models.model import MultimodalModel


def sibling(model: MultimodalModel) -> MultimodalModel:
    """The same model again, sharing every weight and buffer; costs no memory for weights.

    Make it while nothing is attached: hooks would be copied too.
    """
    kept = {id(tensor): tensor for tensor in [*model.hf.parameters(), *model.hf.buffers()]}
    hf = copy.deepcopy(model.hf, kept)
    return MultimodalModel(model.name, hf, model.processor, model.family, model.revision)
