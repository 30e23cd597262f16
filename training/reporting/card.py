"""The model card: manifest and figures -> Markdown. Its sections follow Mitchell et al. 2019, Model Cards.

The template is card.md beside this module; all numbers come from the arguments.
"""

from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue

from app.model.manifest import Manifest, TrainingSource
from training.data.sources import OWN, SOURCES
from training.evaluation.evaluate import Figures
from training.evaluation.numbers import NumberFigures
from training.evaluation.rejection import ACCEPTED, RejectionScores
from training.evaluation.scoring import Interval, Scores
from training.reporting.tables import percent

TEMPLATE = Path(__file__).with_name("card.md")
LIBRARIES = ("python", "keras", "tensorflow", "tensorflow-cpu", "jax", "numpy", "opencv")

_SETS = {
    "test": "MNIST test",
    "validation": "MNIST validation",
    "images": "drawings and photos by other people",
}
_TO_REJECT = {"outliers": "images without a digit", "several": "images of several digits"}


def card(manifest: Manifest, figures: Figures) -> str:
    """The text of models/card.md. It links to the plots in figures/ beside it."""
    return TEMPLATE.read_text(encoding="utf-8").format(
        name=manifest.name,
        version=manifest.version,
        temperature=f"{manifest.temperature:g}",
        facts=_facts(manifest),
        sources=_sources(manifest.sources),
        recipe=", ".join(
            f"{name} {_short(value)}"
            for name, value in manifest.recipe.items()
            if value is not None and name != "sources"
        ),
        measured=_measured(figures),
        digits=_digits(figures.test),
        rejection=_rejection(figures),
        corruptions=_corruptions(figures),
        numbers=_numbers(figures.numbers),
        failures=_failures(figures),
    )


def _facts(manifest: Manifest) -> str:
    trained = manifest.trained
    libraries = [f"{name} {trained[name]}" for name in LIBRARIES if name in trained]
    facts = {
        "architecture": f"`{manifest.architecture}`",
        "parameters": f"{manifest.parameters:,}",
        "multiply-adds per image": f"{manifest.multiply_adds:,}",
        "preprocessing": f"`auto`, version {manifest.preprocessing}",
        "temperature": f"{manifest.temperature:g}",
        "thresholds": f"not a digit above {manifest.thresholds.not_a_digit:g} (log-odds): {1 - ACCEPTED:.1%} of "
        f"the validation digits; low confidence below {manifest.thresholds.low_confidence:g} (probability)",
        "risk curve": f"from {risk.pictures:,} validation pictures, {risk.without_digit:.0%} (weighted) without a digit"
        if (risk := manifest.risk)
        else "none",
        "trained": f"{trained['date']}, {', '.join(libraries)}, {trained['cpu']}",
        "sha256": "<br>".join(f"`{digest}` {file}" for file, digest in manifest.sha256.items()),
    }
    return _table(("", ""), list(facts.items()))


def _sources(sources: Sequence[TrainingSource]) -> str:
    if not sources:
        return ""
    known = SOURCES | OWN
    rows = [
        (source.name, f"{source.samples:,}", source.licence, known[source.name].citation, f"`{source.sha256}`")
        for source in sources
    ]
    header = ("source", "samples", "licence", "origin", "sha256 of the arrays")
    return "\nIt was also trained on these sources. None of their data is shipped:\n\n" + _table(header, rows)


def _measured(figures: Figures) -> str:
    rows = [_row(_title(name), scores) for name, scores in figures.sets.items()]
    header = ("data", "images", "accuracy %", "loss (nats)", "ECE %", "accepted %", "accuracy of the accepted %")
    text = _table(header, rows)
    if figures.images:
        tags = figures.images.tags.items()
        text += "\n" + _table(
            ("drawings and photos by other people", "images", "accuracy %"),
            [(tag, f"{of_tag.images:,}", _share(of_tag.accuracy, of_tag.interval)) for tag, of_tag in tags],
        )
        if groups := figures.images.groups:
            text += (
                f"\nMean over {groups.groups} writers and cameras, equally weighted: "
                f"{_share(groups.accuracy, groups.interval)} % (bootstrap).\n"
            )
    if missing := _not_measured(figures):
        text += f"\nNot measured, because no data was given: {', '.join(missing)}.\n"
    return text


def _title(name: str) -> str:
    """Of a set in a file: its name."""
    return _SETS.get(name) or name.replace("_", " ")


def _not_measured(figures: Figures) -> list[str]:
    measured = figures.sets | figures.to_reject
    missing = [title for name, title in (_SETS | _TO_REJECT).items() if name not in measured]
    missing += [] if figures.corruptions else ["MNIST-C"]
    return missing if figures.numbers else [*missing, "numbers"]


def _row(title: str, scores: Scores) -> tuple[str, ...]:
    accepted = scores.acceptance
    return (
        title,
        f"{scores.images:,}",
        f"{_share(scores.accuracy, scores.interval)}, {scores.wrong} wrong",
        f"{scores.nll:.4f}",
        percent(scores.ece),
        percent(accepted.share if accepted else None),
        f"{percent(accepted.accuracy)}, {accepted.wrong} wrong" if accepted else "-",
    )


def _digits(test: Scores) -> str:
    rows = [
        (str(digit), f"{sum(row):,}", percent(precision), percent(recall))
        for digit, (row, precision, recall) in enumerate(zip(test.confusion, test.precision, test.recall, strict=True))
    ]
    return _table(("digit", "test images", "precision %", "recall %"), rows)


def _rejection(figures: Figures) -> str:
    if not figures.to_reject:
        return ""
    beside = _SETS["images" if figures.images else "test"]
    rows = [_rejection_row(_TO_REJECT.get(name) or _title(name), scores) for name, scores in figures.to_reject.items()]
    return (
        "### Rejection\n\n"
        + _table(("", "images", "accepted %", "AUROC", "accepted % at the alternative threshold", "reasons"), rows)
        + f"\nAUROC: of the outlier score, against the {beside}; of the sets in files, against those of digits. The "
        "alternative threshold accepts 98 % of these digits by the outlier score alone.\n\n"
    )


def _rejection_row(title: str, scores: RejectionScores) -> tuple[str, ...]:
    return (
        title,
        str(scores.images),
        "-" if scores.accepted is None else _share(scores.accepted, scores.interval),
        "-" if scores.auroc is None else f"{scores.auroc:.4f}",
        percent(scores.accepted_beside),
        ", ".join(f"`{reason}` {count}" for reason, count in sorted(scores.reasons.items())),
    )


def _corruptions(figures: Figures) -> str:
    if figures.corruptions is None:
        return ""
    rows = [(name.replace("_", " "), percent(accuracy)) for name, accuracy in figures.corruptions.items()]
    return (
        f"### Corruptions\n\nThe first {figures.corrupted:,} test images with the fifteen corruptions of MNIST-C "
        "(Mu and Gilmer 2019), reimplemented in `training/drawing/corruptions.py`. Some resemble the augmentation, "
        "which also has lines across the digit, hollow strokes and strong noise, generated differently:\n\n"
        + _table(("corruption", "accuracy %"), [*rows, ("**mean**", f"**{percent(figures.corrupted_accuracy)}**")])
        + "\n"
    )


def _numbers(figures: NumberFigures | None) -> str:
    if figures is None:
        return ""
    rows = [
        (
            kind,
            f"{each.pictures}",
            f"{each.exact}, {percent(each.exact / each.pictures)} %",
            f"{each.accepted}",
            f"{each.accepted_wrong}",
            f"{each.edits / each.digits:.3f}",
        )
        for kind, each in sorted(figures.kinds.items())
    ]
    return (
        "### Numbers\n\nPictures of several digits, read as by `POST /read` with 8-bit weights. Calibration error "
        f"(ECE) of the probability that all of a picture is right: {percent(figures.ece)} %.\n\n"
        + _table(("", "pictures", "read without a mistake", "accepted", "of these wrong", "digit error rate"), rows)
        + "\n"
    )


def _failures(figures: Figures) -> str:
    """The weakest points of each set, as a list."""
    lines = []
    for name, scores in figures.sets.items():
        if name == "validation" or not scores.wrong:
            continue
        line = (
            f"- {_title(name)}: {_weakest_digit(scores)}; most frequent: {', '.join(_confusions(scores)) or 'not read'}"
        )
        if len(scores.tags) > 1:
            tag, of_tag = min(scores.tags.items(), key=lambda each: each[1].accuracy)
            line += f"; lowest by kind: `{tag}`, {_share(of_tag.accuracy, of_tag.interval)} % of {of_tag.images}"
        if scores.groups:
            line += f"; lowest by writer: {percent(scores.groups.lowest)} %"
        lines.append(line)
    if figures.corruptions:
        weakest = sorted(figures.corruptions.items(), key=lambda each: each[1])[:3]
        listed = ", ".join(f"{name.replace('_', ' ')} {percent(accuracy)} %" for name, accuracy in weakest)
        lines.append(f"- corruptions: {listed}")
    return "\n".join(lines) + "\n"


def _weakest_digit(scores: Scores) -> str:
    recall, digit = min((recall, digit) for digit, recall in enumerate(scores.recall) if recall is not None)
    return f"lowest recall: digit {digit}, {percent(recall)} %"


def _confusions(scores: Scores, most: int = 3) -> list[str]:
    counts = [
        (count, label, digit)
        for label, row in enumerate(scores.confusion)
        for digit, count in enumerate(row)
        if count and label != digit
    ]
    counts.sort(key=lambda each: (-each[0], each[1:]))
    return [f"{label} read as {digit} ({count})" for count, label, digit in counts[:most]]


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _short(value: JsonValue) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"


def _share(share: float, interval: Interval) -> str:
    return f"{percent(share)} ({percent(interval[0])} to {percent(interval[1])})"
