"""Scores as terminal tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from training.data.samples import find, load
from training.data.sources import Source
from training.evaluation.numbers import NumberFigures
from training.evaluation.rejection import Choice, RejectionScores
from training.evaluation.scoring import Interval, Scores

MISTAKES = 10


def show_scores(scores: Scores, console: Console) -> None:
    """Print all scores: overall, by digit, by tag, confusion matrix, worst mistakes, unread images."""
    _print(
        console,
        f"{scores.images} images   accuracy {percent(scores.accuracy)} % {_interval(scores.interval)}   "
        f"loss {scores.nll:.4f}   ece {percent(scores.ece)} %   "
        f"wrong {scores.wrong}, {len(scores.unread)} of them unread",
    )
    if groups := scores.groups:
        _print(
            console,
            f"mean of {groups.groups} groups {percent(groups.accuracy)} % {_interval(groups.interval)}   "
            f"lowest group {percent(groups.lowest)} %",
        )
    if acceptance := scores.acceptance:
        _print(
            console,
            f"accepted {percent(acceptance.share)} %, accuracy of these {percent(acceptance.accuracy)} % "
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


def show_numbers(figures: NumberFigures, console: Console) -> None:
    """Print what was read of pictures of numbers, by kind, and every picture that was not read exactly."""
    table = Table("pictures", "exact", "accepted", "accepted, wrong", "digit error rate", "ms (median)")
    for kind, each in sorted(figures.kinds.items()):
        table.add_row(
            kind,
            f"{each.exact} of {each.pictures}, {percent(each.exact / each.pictures)} %",
            str(each.accepted),
            str(each.accepted_wrong),
            f"{each.edits / each.digits:.3f}",
            f"{median(each.milliseconds):.1f}",
        )
    console.print(table)
    _print(console, f"ece {percent(figures.ece)} %")
    for name, expected, read in figures.wrong:
        _print(console, f"  {name}: {expected} read as {read or 'nothing'}")


def show_rejection(what: str, scores: RejectionScores, console: Console) -> None:
    """Print the scores of images that should be rejected."""
    accepted = (
        f"accepted {percent(scores.accepted)} % {_interval(scores.interval)}" if scores.accepted is not None else ""
    )
    _print(console, f"{scores.images} {what}   {accepted}{_reasons(scores.reasons)}")
    if scores.auroc is not None:
        _print(
            console,
            f"  AUROC of the outlier score {scores.auroc:.4f}   at the threshold that accepts 98 % of the digits: "
            f"accepted {percent(scores.accepted_beside)} %",
        )


def show_sets(digits: Mapping[str, Scores], others: Mapping[str, RejectionScores], console: Console) -> None:
    """Print one row for each set: of digits, then of what shows none."""
    table = _table(
        "sets", "set", "images", "right %", "accepted %", "accepted but wrong", "accepted at 98 % of all digits, %"
    )
    for name, scores in digits.items():
        accepted = scores.acceptance.share if scores.acceptance else None
        wrong = scores.acceptance.wrong if scores.acceptance else scores.wrong
        table.add_row(name, str(scores.images), percent(scores.accuracy), percent(accepted), str(wrong), "")
    for name, rejection in others.items():
        beside = percent(rejection.accepted_beside)
        table.add_row(name, str(rejection.images), "", percent(rejection.accepted), "", beside)
    console.print(table)


def show_corruptions(accuracies: Mapping[str, float], console: Console) -> None:
    """Print accuracy by corruption, and the mean."""
    table = _table("corruptions of MNIST-C", "corruption", "accuracy %")
    for name, accuracy in accuracies.items():
        table.add_row(name.replace("_", " "), percent(accuracy))
    table.add_row("mean", percent(sum(accuracies.values()) / len(accuracies)))
    console.print(table)


def show_choices(choices: Sequence[Choice], console: Console) -> None:
    """Print the effect of each pair of thresholds."""
    table = _table(
        "thresholds",
        "validation accepted %",
        "not_a_digit",
        "low_confidence",
        "digits accepted %",
        "accuracy of these %",
        "wrong",
        "outliers accepted %",
    )
    for choice in choices:
        table.add_row(
            percent(choice.validation_accepted),
            f"{choice.not_a_digit:.2f}",
            f"{choice.low_confidence:g}",
            percent(choice.digits_accepted),
            percent(choice.accuracy),
            str(choice.wrong),
            percent(choice.outliers_accepted),
        )
    console.print(table)


def show_sources(sources: Sequence[Source], folders: Sequence[Path], console: Console) -> None:
    """Print which sources are in ``folders``, what the others take, and the licences."""
    table = _table(
        f"sources in {', '.join(map(str, folders))}", "source", "kind", "samples here", "download", "licence"
    )
    for column in table.columns:
        column.justify = "left"
    missing = []
    for source in sources:
        folder = find(source, folders)
        samples = f"{len(load(source, folder)):,}" if folder else "none"
        table.add_row(source.name, source.kind, samples, "" if folder else _download(source), source.licence)
        if not folder:
            first, *others = source.files
            more = f" and {len(others)} more" if others else ""
            missing.append(f"{source.name}: {source.note if first.address is None else first.address + more}")
    console.print(table)
    for line in missing:
        _print(console, line)


def percent(share: float | None) -> str:
    """The share in per cent with two decimals; a dash for None."""
    return "-" if share is None else f"{100 * share:.2f}"


def _download(source: Source) -> str:
    if all(file.address is None for file in source.files):
        return "nothing"
    return "size unknown" if source.size is None else f"{source.size / 1e6:.1f} MB"


def _digits(scores: Scores) -> Table:
    table = _table("by digit", "digit", "images", "precision %", "recall %")
    for digit, (row, precision, recall) in enumerate(
        zip(scores.confusion, scores.precision, scores.recall, strict=True)
    ):
        table.add_row(str(digit), str(sum(row)), percent(precision), percent(recall))
    return table


def _confusion(scores: Scores) -> Table:
    table = _table("confusion matrix (row: label, column: answer)", "", *map(str, range(len(scores.confusion))))
    for label, row in enumerate(scores.confusion):
        cells = [f"[bold]{count}[/]" if digit == label else str(count or "·") for digit, count in enumerate(row)]
        table.add_row(str(label), *cells)
    return table


def _tags(scores: Scores) -> Table:
    table = _table("by tag", "tag", "images", "accuracy %", "95 %")
    for tag, of_tag in scores.tags.items():
        table.add_row(tag, str(of_tag.images), percent(of_tag.accuracy), _interval(of_tag.interval))
    return table


def _mistakes(scores: Scores) -> Table:
    table = _table("the most confident mistakes", "image", "label", "answer", "confidence %", "rejected as")
    for mistake in scores.mistakes[:MISTAKES]:
        table.add_row(
            mistake.name,
            str(mistake.label),
            str(mistake.digit),
            percent(mistake.confidence),
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


def _print(console: Console, line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)


def _reasons(reasons: Mapping[str, int]) -> str:
    return (
        f"   rejected: {', '.join(f'{reason} {count}' for reason, count in sorted(reasons.items()))}" if reasons else ""
    )


def _interval(interval: Interval) -> str:
    return f"({100 * interval[0]:.2f} to {100 * interval[1]:.2f})"
