"""Scores as tables on the terminal."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from training.evaluation.rejection import RejectionScores
from training.evaluation.scoring import Interval, Scores
from training.evaluation.thresholds import Choice

MISTAKES = 10


def show_scores(scores: Scores, console: Console) -> None:
    """Print every figure: the whole, by digit, by tag, the confusion, the worst mistakes, what was not read."""
    _say(
        console,
        f"{scores.images} images   accuracy {_percent(scores.accuracy)} % {_interval(scores.interval)}   "
        f"loss {scores.nll:.4f}   ece {_percent(scores.ece)} %   "
        f"wrong {scores.wrong}, of which unread {len(scores.unread)}",
    )
    if groups := scores.groups:
        _say(
            console,
            f"mean of {groups.groups} groups {_percent(groups.accuracy)} % {_interval(groups.interval)}   "
            f"lowest group {_percent(groups.lowest)} %",
        )
    if acceptance := scores.acceptance:
        _say(
            console,
            f"accepted {_percent(acceptance.share)} %, of which right {_percent(acceptance.accuracy)} % "
            f"(wrong {acceptance.wrong}){_reasons(acceptance.reasons)}",
        )
    console.print(_digits(scores))
    console.print(_confusion(scores))
    if scores.tags:
        console.print(_tags(scores))
    if scores.mistakes:
        console.print(_mistakes(scores))
    if scores.unread:
        console.print(_unread(scores))


def show_rejection(what: str, scores: RejectionScores, console: Console) -> None:
    """Print how pictures fared that should be rejected."""
    accepted = (
        f"accepted {_percent(scores.accepted)} % {_interval(scores.interval)}" if scores.accepted is not None else ""
    )
    _say(console, f"{scores.images} {what}   {accepted}{_reasons(scores.reasons)}")
    if scores.auroc is not None:
        _say(
            console,
            f"  AUROC of the outlier score {scores.auroc:.4f}   at a threshold that accepts 98 % of the digits: "
            f"accepted {_percent(scores.accepted_beside)} %",
        )


def show_corruptions(accuracies: Mapping[str, float], console: Console) -> None:
    """Print the accuracy by corruption, and the mean."""
    table = _table("MNIST-C, drawn anew", "corruption", "accuracy %")
    for name, accuracy in accuracies.items():
        table.add_row(name.replace("_", " "), _percent(accuracy))
    table.add_row("mean", _percent(sum(accuracies.values()) / len(accuracies)))
    console.print(table)


def show_choices(choices: Sequence[Choice], console: Console) -> None:
    """Print what each pair of thresholds accepts."""
    table = _table(
        "thresholds",
        "validation accepted %",
        "not_a_digit",
        "low_confidence",
        "digits accepted %",
        "right of these %",
        "wrong",
        "outliers accepted %",
    )
    for choice in choices:
        table.add_row(
            _percent(choice.validation_accepted),
            f"{choice.not_a_digit:.2f}",
            f"{choice.low_confidence:g}",
            _percent(choice.digits_accepted),
            _percent(choice.accuracy),
            str(choice.wrong),
            _percent(choice.outliers_accepted),
        )
    console.print(table)


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
    table = _table("by tag", "tag", "images", "accuracy %", "95 %")
    for tag, of_tag in scores.tags.items():
        table.add_row(tag, str(of_tag.images), _percent(of_tag.accuracy), _interval(of_tag.interval))
    return table


def _mistakes(scores: Scores) -> Table:
    table = _table("the most confident mistakes", "image", "label", "answer", "confidence %", "rejected as")
    for mistake in scores.mistakes[:MISTAKES]:
        table.add_row(
            mistake.name,
            str(mistake.label),
            str(mistake.digit),
            _percent(mistake.confidence),
            mistake.rejection or "",
        )
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


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)


def _reasons(reasons: Mapping[str, int]) -> str:
    return (
        f"   rejected: {', '.join(f'{reason} {count}' for reason, count in sorted(reasons.items()))}" if reasons else ""
    )


def _interval(interval: Interval) -> str:
    return f"({100 * interval[0]:.2f} to {100 * interval[1]:.2f})"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"
