"""The chart: an SVG of bars, readable on light and on dark."""

from typing import Any
from xml.sax.saxutils import escape

from benchmarks.servers import PEERS

SHOWN = {"get": "Get one", "page": "Page of 50", "create": "Create"}
LABEL_WIDTH, BAR_WIDTH, ROW_HEIGHT, BAR_HEIGHT, WIDTH = 190, 440, 24, 15, 720
STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #1f2328; }
    .title { font-weight: 600; font-size: 15px; }
    .small { font-size: 11px; fill: #59636e; }
    .bar { fill: #8c959f; }
    .limit { fill: #d0d7de; }
    .tandem { fill: #0969da; }
    .range { stroke: #1f2328; stroke-width: 1; }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc; }
      .small { fill: #9198a1; }
      .bar { fill: #656c76; }
      .limit { fill: #3d444d; }
      .tandem { fill: #4493f8; }
      .range { stroke: #f0f6fc; }
    }
"""


def draw(results: dict[str, Any]) -> str:
    """The ratios to the hand-written limit, as an SVG document."""
    shown = [figure for case in SHOWN for figure in results["ratios"][case].values()]
    scale = BAR_WIDTH / max(figure["max"] for figure in shown)
    lines: list[str] = []
    y = 26
    lines.append(_text(0, y, "Speed per CPU second, hand-written Starlette + asyncpg = 1", "title"))
    for case, title in SHOWN.items():
        y += 34
        lines.append(_text(0, y, title, "title"))
        y += 8
        for peer in PEERS:
            figure = results["ratios"][case].get(peer.name)
            if figure:
                lines.append(_bar(y, peer.title, peer.name, figure, scale))
                y += ROW_HEIGHT
    y += 24
    meta = results["meta"]
    note = f"Median and range of {meta['rounds']} rounds; {meta['rows']:,} rows, RS256 tokens, one core; {meta['date']}"
    lines.append(_text(0, y, note, "small"))
    body = "\n  ".join(lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 14}" role="img">\n'
        f"  <title>Tandem beside other frameworks</title>\n  <style>{STYLE}  </style>\n  {body}\n</svg>\n"
    )


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text x="{x}" y="{y}" class="{kind}">{escape(text)}</text>'


def _bar(y: float, title: str, name: str, figure: dict[str, float], scale: float) -> str:
    kind = {"raw": "limit", "raw_handed": "limit", "tandem": "tandem"}.get(name, "bar")
    middle, width = y + BAR_HEIGHT / 2, figure["median"] * scale
    low, high = (LABEL_WIDTH + figure[end] * scale for end in ("min", "max"))
    return (
        _text(0, y + 12, title)
        + f'<rect x="{LABEL_WIDTH}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT}" class="{kind}"/>'
        + f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" class="range"/>'
        + _text(round(high + 8, 1), y + 12, f"{figure['median']:.2f}")
    )
