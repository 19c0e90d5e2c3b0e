"""Metrics for Prometheus."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from mllmeraser.serving.engine import BatchReport

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Metrics of one server."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        """Begin at zero, in a separate registry."""
        self.registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=self.registry), partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self.requests = counter(
            "mllmeraser_requests_total", "Requests by route, method and status", ["route", "method", "status"]
        )
        self.latency = histogram(
            "mllmeraser_request_seconds", "Time to the end of a response", ["route"], buckets=SECONDS
        )
        self.batches = histogram("mllmeraser_batch_rows", "Answers made together", buckets=(1, 2, 4, 8, 16, 32, 64))
        self.batch_seconds = histogram("mllmeraser_batch_seconds", "Time of a batch", buckets=SECONDS)
        self.tokens = counter("mllmeraser_tokens_total", "Tokens of answers")
        self.answers = counter("mllmeraser_answers_total", "Answers by how they ended", ["end"])
        self.fired = counter("mllmeraser_gate_fired_total", "Prompts that a gate fired on", ["eraser"])
        self.queue = gauge("mllmeraser_queue_length", "Requests that wait")
        self.version = gauge("mllmeraser_eraser_set_version", "Version of the erasers in force")
        self.first_token = histogram(
            "mllmeraser_first_token_seconds", "Time from the begin of a batch to its first token", buckets=SECONDS
        )
        self.token_seconds = histogram(
            "mllmeraser_token_seconds", "Time for one token of every answer of a batch", buckets=SECONDS
        )
        self.intact = gauge(
            "mllmeraser_ledger_intact", "Whether the ledger's records are unchanged: 1, 0, or -1 for not known"
        )
        self.webhooks = counter("mllmeraser_webhooks_total", "Messages to the address of webhooks", ["result"])
        self.erasures = gauge("mllmeraser_erasures", "Erasures of the ledger by state", ["state"])
        self.ready = gauge("mllmeraser_ready", "Whether requests are answered")

    def batch(self, report: BatchReport) -> None:
        """Count a finished batch."""
        self.batches.observe(report.rows)
        self.batch_seconds.observe(report.seconds)
        self.tokens.inc(report.tokens)
        if report.prompt_seconds is not None:
            self.first_token.observe(report.prompt_seconds)
            steps = -(-report.tokens // max(1, report.rows)) - 1  # the first token came with the prompt
            if steps > 0:
                self.token_seconds.observe((report.seconds - report.prompt_seconds) / steps)
        self.queue.set(report.queued)
        for reason, count in report.ends.items():
            self.answers.labels(reason).inc(count)
        for name, count in report.fired.items():
            self.fired.labels(name).inc(count)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
