"""What is counted, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from mllmeraser.serving.engine import BatchReport

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """One server's counters."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        """All at zero, in a registry of their own."""
        self.registry = CollectorRegistry()
        place = self.registry
        self.requests = Counter(
            "mllmeraser_requests_total", "Requests by route, method and status", ["route", "method", "status"],
            registry=place,
        )  # fmt: skip
        self.latency = Histogram(
            "mllmeraser_request_seconds", "Time to the end of a response", ["route"], buckets=SECONDS, registry=place
        )
        self.batches = Histogram(
            "mllmeraser_batch_rows", "Answers made together", buckets=(1, 2, 4, 8, 16, 32, 64), registry=place
        )
        self.batch_seconds = Histogram("mllmeraser_batch_seconds", "Time of a batch", buckets=SECONDS, registry=place)
        self.tokens = Counter("mllmeraser_tokens_total", "Tokens of answers", registry=place)
        self.answers = Counter("mllmeraser_answers_total", "Answers by how they ended", ["end"], registry=place)
        self.fired = Counter("mllmeraser_gate_fired_total", "Prompts that a gate fired on", ["eraser"], registry=place)
        self.queue = Gauge("mllmeraser_queue_length", "Requests that wait", registry=place)
        self.version = Gauge("mllmeraser_eraser_set_version", "Version of the erasers in force", registry=place)
        self.ready = Gauge("mllmeraser_ready", "Whether requests are answered", registry=place)

    def batch(self, report: BatchReport) -> None:
        """Count a finished batch."""
        self.batches.observe(report.rows)
        self.batch_seconds.observe(report.seconds)
        self.tokens.inc(report.tokens)
        self.queue.set(report.queued)
        for reason, count in report.ends.items():
            self.answers.labels(reason).inc(count)
        for name, count in report.fired.items():
            self.fired.labels(name).inc(count)

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self.registry)
