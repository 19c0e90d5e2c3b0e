"""Evaluation: outcomes of answers, scores, intervals, and the runner that fills the score table."""

from mllmeraser.evaluation.denominators import matching_count, scored_items
from mllmeraser.evaluation.memorisation import Memorisation, NotMemorisedError, memorised
from mllmeraser.evaluation.outcomes import OUTCOMES, Judgement, Outcome, classify, judge, values_of
from mllmeraser.evaluation.protocols import PROTOCOLS, Protocol, default_protocol, get_protocol
from mllmeraser.evaluation.records import EvaluationResult, Item, Record, read_scores
from mllmeraser.evaluation.runner import evaluate

__all__ = [
    "OUTCOMES",
    "PROTOCOLS",
    "EvaluationResult",
    "Item",
    "Judgement",
    "Memorisation",
    "NotMemorisedError",
    "Outcome",
    "Protocol",
    "Record",
    "classify",
    "default_protocol",
    "evaluate",
    "get_protocol",
    "judge",
    "matching_count",
    "memorised",
    "read_scores",
    "scored_items",
    "values_of",
]
