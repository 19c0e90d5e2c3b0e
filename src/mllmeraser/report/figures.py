"""Figures as inline SVG. The page's CSS variables set their colours, so they follow light and dark."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape

from mllmeraser.report.content import GatePanel

WIDTH, LEFT, RIGHT = 720, 96, 16
RIDGE, GAP, AXIS = 46, 10, 30
BINS, TICKS = 72, 160


def gate_picture(panel: GatePanel) -> Markup:
    """Draw a ridge per group over one axis of gate scores, a tick per prompt, and the threshold as a line.

    The axis spans the central 99 % of every group and the threshold; scores outside are drawn at the edge. Each ridge
    is scaled to its own peak, so its height does not show the size of the group.
    """
    groups = {name: np.asarray(scores, dtype=float) for name, scores in panel.readings.items() if len(scores)}
    if not groups:
        return Markup("")
    low, high = _span(list(groups.values()), panel.threshold)
    height = len(groups) * (RIDGE + GAP) + AXIS + 18
    parts = [f'<svg class="gate" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(describe(panel))}">']
    for row, (name, scores) in enumerate(groups.items()):
        parts += _ridge(str(name), scores, low, high, 18 + row * (RIDGE + GAP))
    base = 18 + len(groups) * (RIDGE + GAP) - GAP + 6
    parts += _axis(low, high, base)
    if panel.threshold is not None:
        x = _x(panel.threshold, low, high)
        anchor = "end" if x > WIDTH * 0.7 else "start"
        shift = -6 if anchor == "end" else 6
        parts.append(f'<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{base}"/>')
        label = f"acts from {panel.threshold:.3g}"
        parts.append(f'<text class="note" x="{x + shift:.1f}" y="13" text-anchor="{anchor}">{label}</text>')
    parts.append("</svg>")
    return Markup("".join(parts))


def describe(panel: GatePanel) -> str:
    """The figure in words: per group the median, and the share at or above the threshold."""
    groups = []
    for name, scores in panel.readings.items():
        words = f"{name}: median {np.median(scores):.3g} over {len(scores)} prompts" if len(scores) else ""
        if words and panel.threshold is not None:
            share = np.mean(np.asarray(scores) >= panel.threshold)
            words += f", {100 * share:.1f} % at or above the threshold"
        groups.append(words)
    return f"Gate scores, {panel.title}. " + "; ".join(filter(None, groups)) + "."


def interval_picture(accuracy: float, low: float, high: float) -> Markup:
    """Draw a small track from 0 to 1 with the 95 % interval and the point. The number beside it says the same."""
    left, right, point = (2 + 60 * min(max(value, 0.0), 1.0) for value in (low, high, accuracy))
    return Markup(
        '<svg class="interval" viewBox="0 0 64 8" width="64" height="8" aria-hidden="true">'
        '<line class="track" x1="2" x2="62" y1="4" y2="4"/>'
        f'<line class="range" x1="{left:.1f}" x2="{max(right, left + 0.1):.1f}" y1="4" y2="4"/>'
        f'<circle cx="{point:.1f}" cy="4" r="2.6"/></svg>'
    )


def _span(groups: Sequence[np.ndarray], threshold: float | None) -> tuple[float, float]:
    ends = [float(end) for scores in groups for end in np.percentile(scores, (0.5, 99.5))]
    ends += [] if threshold is None else [threshold]
    low, high = min(ends), max(ends)
    pad = 0.04 * (high - low) or 0.5
    return low - pad, high + pad


def _x(value: float, low: float, high: float) -> float:
    share = min(max((value - low) / (high - low), 0.0), 1.0)
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _ridge(name: str, scores: np.ndarray, low: float, high: float, top: float) -> list[str]:
    counts, edges = np.histogram(np.clip(scores, low, high), bins=BINS, range=(low, high))
    kernel = np.array([1, 4, 6, 4, 1]) / 16
    density = np.convolve(np.pad(counts.astype(float), 2), kernel, mode="same")[2:-2]
    density /= max(density.max(), 1e-12)
    floor = top + RIDGE - 8
    middles = (edges[:-1] + edges[1:]) / 2
    points = [
        f"{_x(middle, low, high):.1f},{floor - 34 * level:.1f}" for middle, level in zip(middles, density, strict=True)
    ]
    outline = f"M{LEFT},{floor} L{' L'.join(points)} L{WIDTH - RIGHT},{floor} Z"
    shown = scores[np.linspace(0, len(scores) - 1, min(len(scores), TICKS)).astype(int)]
    ticks = "".join(f"M{_x(score, low, high):.1f} {floor + 2}v6" for score in shown)
    kind = re.sub("[^a-z]+", "-", name.lower())
    return [
        f'<g class="group-{kind}"><path class="ridge" d="{outline}"/><path class="ticks" d="{ticks}"/></g>',
        f'<text class="group" x="{LEFT - 12}" y="{floor - 8}" text-anchor="end">{escape(name)}</text>',
        f'<text class="note" x="{LEFT - 12}" y="{floor + 6}" text-anchor="end">{len(scores)}</text>',
    ]


def _axis(low: float, high: float, y: float) -> list[str]:
    parts = [f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>']
    for value in _nice(low, high):
        x = _x(value, low, high)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + 4}"/>')
        parts.append(f'<text class="note" x="{x:.1f}" y="{y + 17}" text-anchor="middle">{value:g}</text>')
    return parts


def _nice(low: float, high: float) -> list[float]:
    rough = (high - low) / 6
    magnitude = 10.0 ** np.floor(np.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough)
    return [round(number * step, 12) for number in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]
