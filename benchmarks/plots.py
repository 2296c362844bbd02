"""Charts as SVG. The same numbers give the same bytes."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .report import Chart

COLOURS = {"ours": "#2a6f97", "peer": "#b5651d", "floor": "#8a8a8a"}
LEGEND = {"ours": "rustauth-django", "peer": "peers", "floor": "the bare client or server"}
STYLE = {
    "font.family": "sans-serif",
    "svg.fonttype": "none",  # text as text: small files, and diffs that can be read
    "svg.hashsalt": "rustauth-django",
}


def draw(chart: Chart, folder: Path) -> Path:
    """Write ``folder/NAME.svg``."""
    path = folder / f"{chart.name}.svg"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 1.5 + 0.3 * len(chart.bars)), layout="constrained")
        axes = figure.subplots()
        axes.set_axisbelow(True)
        axes.grid(axis="x", color="#dddddd")
        positions = range(len(chart.bars))
        values = [bar.value.median for bar in chart.bars]
        axes.barh(
            positions,
            values,
            height=0.7,
            color=[COLOURS[bar.kind] for bar in chart.bars],
            xerr=(
                [bar.value.median - bar.value.low for bar in chart.bars],
                [bar.value.high - bar.value.median for bar in chart.bars],
            ),
            error_kw={"ecolor": "#333333", "capsize": 2, "linewidth": 1},
        )
        for position, bar in zip(positions, chart.bars, strict=True):
            text = f"{bar.value.median:,.0f}" if max(values) >= 100 else f"{bar.value.median:.2f}"
            axes.annotate(
                text,
                (bar.value.high, position),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize="small",
                bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
            )
        axes.set_yticks(positions, [bar.label for bar in chart.bars])
        axes.set_ylim(len(chart.bars) - 0.4, -0.6)
        axes.set_xlim(0, 1.1 * max(bar.value.high for bar in chart.bars))
        axes.set_xlabel(chart.axis)
        axes.set_title(chart.title, loc="left", fontweight="bold")
        if chart.line:
            axes.axvline(1, color="#c1121f", linewidth=1.2)
        kinds = dict.fromkeys(bar.kind for bar in chart.bars)
        handles = [Patch(color=COLOURS[kind], label=LEGEND[kind]) for kind in kinds]
        if chart.line:
            handles.append(Patch(color="#c1121f", label=f"1.0: {chart.line}"))
        figure.legend(handles=handles, loc="outside lower right", ncols=len(handles))
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    return path
