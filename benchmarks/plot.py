"""Plots the results."""

from pathlib import Path
from typing import Any

from benchmarks.report import Run
from benchmarks.servers import ALL
from benchmarks.workloads import Case

PANELS = (
    ("cpu", "server CPU per delivery, us (less is better)", 1.0),
    ("rate", "joins per second (more is better)", 1.0),
    ("client", "client CPU per delivery, us (less is better)", 1.0),
    ("memory", "memory per idle connection, KB (less is better)", 1024.0),
)
COLOURS = {
    "ours": "#0b6e4f",
    "original": "#c8553d",
    "ws": "#4c6a92",
    "peer": "#8d7b9f",
    "bun": "#e3b7a0",
    "floor": "#222222",
    "stock": "#d9a441",
    "bare": "#9aa5b1",
    "plain": "#b0c4b1",
    "fresh": "#6d9dc5",
    "node1": "#7fb069",
    "node2": "#5b8c5a",
    "node4": "#3c5a3e",
}


def plot(path: Path, results: list[tuple[Case, dict[str, Run]]]) -> None:
    """Draw the headline figures as bars, one panel per kind."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import patches, pyplot

    panels = []
    for figure, title, unit in PANELS:
        shown = [(case, medians) for case, medians in results if case.headline == figure]
        if shown:
            panels.append((figure, title, unit, shown))
    if not panels:
        return
    heights = [sum(len(medians) + 1 for _, medians in shown) for *_, shown in panels]
    figure_, axes = pyplot.subplots(
        len(panels),
        1,
        figsize=(11, 0.2 * sum(heights) + 1.2 * len(panels)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for (name, title, unit, shown), ax in zip(panels, axes[:, 0], strict=True):
        _panel(ax, name, unit, shown)
        ax.set_title(title, loc="left", fontsize=10)
    there = [
        peer for peer in COLOURS if any(peer in medians for *_, s in panels for _, medians in s)
    ]
    handles = [patches.Rectangle((0, 0), 1, 1, color=COLOURS[peer]) for peer in there]
    labels = [ALL[peer].label for peer in there]
    figure_.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure_.savefig(path, dpi=110)
    pyplot.close(figure_)


def _panel(ax: Any, name: str, unit: float, shown: list[tuple[Case, dict[str, Run]]]) -> None:
    at, ticks, labels = 0.0, [], []
    for case, medians in shown:
        first = at
        for peer, median in medians.items():
            if name in median:
                value = median[name] / unit
                ax.barh(at, value, height=0.85, color=COLOURS[peer])
                ax.text(
                    value,
                    at,
                    f" {value:,.0f}" if value >= 100 else f" {value:.3g}",
                    va="center",
                    fontsize=7,
                )
            at += 1
        ticks.append((first + at - 1) / 2)
        labels.append(case.name)
        at += 1
    ax.set_yticks(ticks, labels, fontsize=8)
    ax.invert_yaxis()
    ax.margins(x=0.12, y=0.01)
    if name in ("cpu", "rate"):  # which span decades
        ax.set_xscale("log")
        ax.set_xlim(left=1)
    ax.tick_params(axis="x", labelsize=8)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
