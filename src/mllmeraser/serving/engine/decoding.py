"""One call of `generate`: chooses the token of every row, hands on what is said, and ends rows one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from mllmeraser.models.model import MultimodalModel
from mllmeraser.serving.engine.errors import EngineError
from mllmeraser.serving.engine.logprobs import TokenNames, token_logprobs
from mllmeraser.serving.engine.rows import Row
from mllmeraser.serving.engine.sampling import pick


class Decoding(LogitsProcessor):
    """Greedy search takes the largest logit: what this leaves is -inf everywhere but at the token of its choice."""

    def __init__(
        self,
        model: MultimodalModel,
        rows: Sequence[Row],
        names: TokenNames,
        prompt_read: Callable[[], None],
        step: Callable[[], None],
    ) -> None:
        """Decode `rows`; `prompt_read` is called before the first token is chosen, `step` before each."""
        self.rows = rows
        self._names, self._prompt_read, self._step = names, prompt_read, step
        self.pad = int(model.processor.tokenizer.pad_token_id)
        self._ends = end_tokens(model)
        self._begun = False

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Choose by logits (rows, vocabulary)."""
        if not self._begun:
            self._prompt_read()
            self._begun = True
        self._step()
        for row in self.rows:
            row.look()
        tokens = self._chosen(scores)
        forced = torch.full_like(scores, -torch.inf)
        return forced.scatter_(1, torch.tensor(tokens, device=scores.device)[:, None], 0.0)

    def _chosen(self, scores: Tensor) -> list[int]:
        """One token per row; rows that ended get padding."""
        live = [row.ended is None for row in self.rows]
        draws = [row.draw if alive else None for row, alive in zip(self.rows, live, strict=True)]
        sound = scores.amax(-1).isfinite()
        # A row without sound logits has no distribution to draw from; it ends here.
        tokens: list[int] = pick(torch.where(sound[:, None], scores, torch.zeros_like(scores)), draws).tolist()
        wanted = [row.waiting.sampling.logprobs if alive else None for row, alive in zip(self.rows, live, strict=True)]
        logprobs = token_logprobs(scores, tokens, wanted, self._names)
        for number, good in enumerate(sound.tolist()):
            row = self.rows[number]
            if not live[number]:
                tokens[number] = self.pad
            elif not good:
                tokens[number] = self.pad
                row.fail(EngineError("the model gave no usable answer: its logits are not finite"))
            else:
                row.add(tokens[number], tokens[number] in self._ends, logprobs[number])
        return tokens


class Ended(StoppingCriteria):
    """Which rows have ended."""

    def __init__(self, rows: Sequence[Row]) -> None:
        """Look at `rows`."""
        self._rows = rows

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """(rows,) bool."""
        return torch.tensor([row.ended is not None for row in self._rows], device=input_ids.device)


@torch.no_grad()
def decode(model: MultimodalModel, inputs: Any, decoding: Decoding) -> None:
    """Run `generate` until every row has ended.

    The penalties of the checkpoint's generation settings are switched off, so that the logits are the model's own;
    tokens that those settings suppress stay suppressed.
    """
    model.hf.generate(
        **inputs,
        max_new_tokens=max(row.limit for row in decoding.rows),
        logits_processor=LogitsProcessorList([decoding]),
        stopping_criteria=StoppingCriteriaList([Ended(decoding.rows)]),
        do_sample=False,
        num_beams=1,
        num_return_sequences=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        temperature=None,
        top_p=None,
        top_k=None,
        use_cache=True,
        return_dict_in_generate=False,
        pad_token_id=decoding.pad,
    )


def end_tokens(model: MultimodalModel) -> frozenset[int]:
    """Tokens that end an answer: those of the checkpoint's generation settings and of its tokenizer."""
    given = getattr(model.hf.generation_config, "eos_token_id", None)
    listed = [] if given is None else [given] if isinstance(given, int) else list(given)
    own = model.processor.tokenizer.eos_token_id
    return frozenset(int(token) for token in [*listed, *([] if own is None else [own])])
