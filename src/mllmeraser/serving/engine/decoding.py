"""One call of `generate`: choose a token for every row, pass it on, and end rows one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteriaList

from mllmeraser.models.model import MultimodalModel
from mllmeraser.models.prompts import end_tokens
from mllmeraser.serving.engine.errors import EngineError
from mllmeraser.serving.engine.logprobs import TokenNames, token_logprobs
from mllmeraser.serving.engine.rows import Row
from mllmeraser.serving.engine.sampling import pick

Callback = Callable[[], None]


class Decoding(LogitsProcessor):
    """Make greedy search take the chosen token: all other logits become -inf."""

    def __init__(
        self, model: MultimodalModel, rows: Sequence[Row], names: TokenNames, prompt_read: Callback, step: Callback
    ) -> None:
        """Decode `rows`; `prompt_read` is called before the first token is chosen, `step` before each."""
        self.rows = rows
        self._names, self._prompt_read, self._step = names, prompt_read, step
        self.pad = int(model.processor.tokenizer.pad_token_id)
        self._ends = frozenset(end_tokens(model.hf, model.processor))
        self._begun = False

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Choose by logits (rows, vocabulary)."""
        if not self._begun:
            self._prompt_read()
            self._begun = True
        self._step()
        tokens = self._chosen(scores)
        forced = torch.full_like(scores, -torch.inf)
        return forced.scatter_(1, torch.tensor(tokens, device=scores.device)[:, None], 0.0)

    def ended(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Return the rows that have ended, (rows,) bool: a stopping criterion."""
        return torch.tensor([row.ended is not None for row in self.rows], device=input_ids.device)

    def _chosen(self, scores: Tensor) -> list[int]:
        """One token per row; rows that ended get padding."""
        live = [row.ended is None for row in self.rows]
        draws = [row.draw if alive else None for row, alive in zip(self.rows, live, strict=True)]
        finite = scores.amax(-1).isfinite()
        # A row without finite logits has no distribution to draw from; it ends below.
        tokens: list[int] = pick(torch.where(finite[:, None], scores, torch.zeros_like(scores)), draws).tolist()
        wanted = [row.waiting.sampling.logprobs if alive else None for row, alive in zip(self.rows, live, strict=True)]
        logprobs = token_logprobs(scores, tokens, wanted, self._names)
        for number, (row, usable) in enumerate(zip(self.rows, finite.tolist(), strict=True)):
            if live[number] and usable:
                row.add(tokens[number], tokens[number] in self._ends, logprobs[number])
                continue
            tokens[number] = self.pad
            row.fail(EngineError("the model gave no usable answer: its logits are not finite"))  # unless it has ended
        return tokens


@torch.no_grad()
def decode(model: MultimodalModel, inputs: Any, decoding: Decoding) -> None:
    """Run `generate` until every row has ended.

    The penalties of the checkpoint's generation settings are off, so the logits are the model's own. Tokens that
    those settings suppress stay suppressed.
    """
    model.hf.generate(
        **inputs,
        max_new_tokens=max(row.limit for row in decoding.rows),
        logits_processor=LogitsProcessorList([decoding]),
        stopping_criteria=StoppingCriteriaList([decoding.ended]),
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
