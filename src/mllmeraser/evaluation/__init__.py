"""Evaluation: outcomes of answers, scores, intervals, and the runner that makes the score table."""

from mllmeraser.evaluation.comparison import Comparison, compare
from mllmeraser.evaluation.denominators import matching_count, possible_denominators, scored_items
from mllmeraser.evaluation.memorisation import Memorisation, NotMemorisedError, memorised
from mllmeraser.evaluation.outcomes import OUTCOMES, Judgement, Outcome, classify, judge, values_of
from mllmeraser.evaluation.protocols import PROTOCOLS, Protocol, default_protocol, get_protocol
from mllmeraser.evaluation.records import EvaluationResult, Item, OptionRecord, Record, read_scores
from mllmeraser.evaluation.runner import evaluate

__all__ = [
    "OUTCOMES",
    "PROTOCOLS",
    "Comparison",
    "EvaluationResult",
    "Item",
    "Judgement",
    "Memorisation",
    "NotMemorisedError",
    "OptionRecord",
    "Outcome",
    "Protocol",
    "Record",
    "classify",
    "compare",
    "default_protocol",
    "evaluate",
    "get_protocol",
    "judge",
    "matching_count",
    "memorised",
    "possible_denominators",
    "read_scores",
    "scored_items",
    "values_of",
]
