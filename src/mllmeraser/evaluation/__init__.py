"""Evaluation: outcomes of answers, scores, intervals, and the runner that makes the score table."""

from mllmeraser.evaluation.comparison import Comparison, compare
from mllmeraser.evaluation.outcomes import OUTCOMES, Judgement, Outcome, classify, judge, values_of
from mllmeraser.evaluation.records import EvaluationResult, Item, OptionRecord, Record, read_scores
from mllmeraser.evaluation.runner import evaluate

__all__ = [
    "OUTCOMES",
    "Comparison",
    "EvaluationResult",
    "Item",
    "Judgement",
    "OptionRecord",
    "Outcome",
    "Record",
    "classify",
    "compare",
    "evaluate",
    "judge",
    "read_scores",
    "values_of",
]
