"""Scores as tables on the terminal."""

from rich.console import Console
from rich.table import Table

from training.scoring import Scores

MISTAKES = 10


def show_scores(scores: Scores, console: Console) -> None:
    """Print every figure: the whole, by digit, by tag, the confusion, the worst mistakes, what was not read."""
    console.print(
        f"{scores.images} images   accuracy {_percent(scores.accuracy)} %   loss {scores.nll:.4f}   "
        f"wrong {scores.wrong}, of which unread {len(scores.unread)}",
        highlight=False,
    )
    console.print(_digits(scores))
    console.print(_confusion(scores))
    if scores.tags:
        console.print(_tags(scores))
    if scores.mistakes:
        console.print(_mistakes(scores))
    if scores.unread:
        console.print(_unread(scores))


def _digits(scores: Scores) -> Table:
    table = _table("by digit", "digit", "images", "precision %", "recall %")
    for digit, (row, precision, recall) in enumerate(
        zip(scores.confusion, scores.precision, scores.recall, strict=True)
    ):
        table.add_row(str(digit), str(sum(row)), _percent(precision), _percent(recall))
    return table


def _confusion(scores: Scores) -> Table:
    table = _table("confusion (row: label, column: answer)", "", *map(str, range(len(scores.confusion))))
    for label, row in enumerate(scores.confusion):
        cells = [f"[bold]{count}[/]" if digit == label else str(count or "·") for digit, count in enumerate(row)]
        table.add_row(str(label), *cells)
    return table


def _tags(scores: Scores) -> Table:
    table = _table("by tag", "tag", "images", "accuracy %")
    for tag, of_tag in scores.tags.items():
        table.add_row(tag, str(of_tag.images), _percent(of_tag.accuracy))
    return table


def _mistakes(scores: Scores) -> Table:
    table = _table("the most confident mistakes", "image", "label", "answer", "confidence %")
    for mistake in scores.mistakes[:MISTAKES]:
        table.add_row(mistake.name, str(mistake.label), str(mistake.digit), _percent(mistake.confidence))
    return table


def _unread(scores: Scores) -> Table:
    table = _table("unread, counted as wrong", "image", "reason")
    for name, reason in scores.unread.items():
        table.add_row(name, reason)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"
