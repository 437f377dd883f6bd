"""Shows outcomes: for a terminal (with rich where there is one), as Markdown, and in the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .figures import Figure, Outcome, Target

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- figures: written by --write-readme -->", "<!-- end of figures -->"

COLUMNS = ("", "measured", "× base", "target", "")
VERDICTS = {True: "met", False: "MISSED", None: ""}


def show_machine(machine: Mapping[str, str]) -> None:
    """Print what the figures are measured on."""
    for what, value in machine.items():
        print(f"{what:>8}  {value}")


def show(outcome: Outcome) -> None:
    """Print one benchmark's table."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        _show_plain(outcome)
        return
    colours = {"met": "green", "MISSED": "bold red", "": ""}
    table = Table(title=f"\n{outcome.title}", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if 0 < number < 4 else "left", no_wrap=True)
    for figure in outcome.figures:
        *cells, verdict = _cells(figure)
        table.add_row(*cells, f"[{colours[verdict]}]{verdict}[/]" if verdict else "")
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120  # rich would cut at 80
    console.print(table)


def _show_plain(outcome: Outcome) -> None:
    print(f"\n{outcome.title}")
    for figure in outcome.figures:
        what, *numbers, verdict = _cells(figure)
        print(f"  {what:<46}{''.join(f'{number:>13}' for number in numbers)}  {verdict}".rstrip())


def count_targets(outcomes: Sequence[Outcome]) -> str:
    """How many targets were met, in words."""
    verdicts = [figure.is_met for outcome in outcomes for figure in outcome.figures if figure.target]
    return f"{verdicts.count(True)} of {len(verdicts)} targets met"


def as_markdown(machine: Mapping[str, str], outcomes: Sequence[Outcome]) -> str:
    """Machine and tables as they stand in the README."""
    lines = [*(f"- {what}: {value}" for what, value in machine.items()), "", f"**{count_targets(outcomes)}.**"]
    for outcome in outcomes:
        rows = (_cells(figure) for figure in outcome.figures)
        lines += ["", f"### {outcome.title} (`{outcome.name}`)", ""]
        lines += [f"| {' | '.join(COLUMNS)} |", "| --- | ---: | ---: | ---: | --- |"]
        lines += [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join(lines)


def write_readme(markdown: str, readme: Path = README) -> None:
    """Put *markdown* between the markers of *readme*."""
    before, begin, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{readme.name} lacks the lines {BEGIN!r} and {END!r}")
    readme.write_text(f"{before}{BEGIN}\n\n{markdown}\n\n{END}{after}")


def _cells(figure: Figure) -> tuple[str, str, str, str, str]:
    number = f"{figure.value:.2f}" if figure.unit == "×" else _number(figure.value)
    measured = f"{number} {figure.unit}".rstrip()
    times = "" if figure.times is None else f"{figure.times:.2f}" if figure.times < 100 else f"{figure.times:,.0f}"
    return figure.what, measured, times, _target(figure), VERDICTS[figure.is_met]


def _target(figure: Figure) -> str:
    match figure.target:
        case Target(_, sign, limit):
            return f"{sign} {limit:g} {figure.unit}".rstrip()
        case _:
            return ""


def _number(value: float) -> str:
    if value == int(value) or value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 10 else f"{value:.1f}"
