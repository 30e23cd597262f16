"""The results of a scan -> `report.html`, one file that loads nothing else, and `results.csv`."""

import base64
import hashlib
import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path, PurePosixPath
from string import Template
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
from numpy.typing import NDArray

from app.scan.results import Results
from app.scan.shards import CROPS, kind_of

REPORT = "report.html"
CSV = "results.csv"

_BINS = 10  # of the confidence
_LEAST_CERTAIN, _REJECTED, _ERRORS = 100, 1000, 100  # shown, at most
_SHOWN = ["source", "key", "confidence", "accepted", "reason", "error", "crop"]
_REASONS = {
    "not_a_digit": "does not look like a digit",
    "not_a_number": "does not look like a number",
    "low_confidence": "too uncertain",
    "several_digits": "several digits",
}

Row = dict[str, Any]


class Run(NamedTuple):
    """What the last run of a scan read itself."""

    pictures: int
    seconds: float


@dataclass
class _Figures:
    """``confidence``: how many in each bin. ``texts``: accepted readings of each digit, or numbers of each length."""

    numbers: bool

    pictures: int = 0
    accepted: int = 0
    model: str = ""
    texts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    confidence: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    least_certain: list[Row] = field(default_factory=list)
    rejected: list[Row] = field(default_factory=list)
    unread: list[Row] = field(default_factory=list)

    def add(self, table: pa.Table) -> None:
        accepted, other = (table.filter(pc.equal(table["accepted"], value)) for value in (True, False))
        self.pictures += len(table)
        self.accepted += len(accepted)
        texts = accepted["text"].to_pylist()
        self.texts.update([str(len(number)) for text in texts for number in text.split()] if self.numbers else texts)
        self.reasons.update(other["reason"].to_pylist())
        self.errors.update(table["error"].drop_null().to_pylist())
        self.confidence += np.histogram(table["confidence"].drop_null().to_numpy(), _BINS, (0, 1))[0]
        self.least_certain = _least(self.least_certain, accepted, _LEAST_CERTAIN)
        self.rejected = _least(self.rejected, other, _REJECTED)
        if len(self.unread) < _ERRORS:
            unread = table.filter(pc.is_valid(table["error"]))
            self.unread += unread.slice(0, _ERRORS - len(self.unread)).to_pylist()


def write_report(results: Results, names: Sequence[str], run: Run, *, numbers: bool) -> str:
    """The report of the shards of a scan -> its figures in one line."""
    figures = _Figures(numbers)
    column = "text" if numbers else "digit"
    for name in names:
        table = results.read(name, [*_SHOWN, column])
        figures.add(table.drop_columns(column).append_column("text", table[column].cast(pa.string())))
    unread = figures.errors.total()
    line = (
        f"{figures.pictures:,} pictures: {figures.accepted:,} accepted, {figures.reasons.total():,} not accepted, "
        f"{unread:,} not read"
    )
    rate = run.pictures / run.seconds
    speed = f"The last run read {run.pictures:,} of them in {run.seconds:,.1f} s: {rate:,.0f} per second."
    page = Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8")).substitute(
        figures=escape(line),
        speed=speed if run.pictures else "The last run found all of them read.",
        of_what="Accepted, by number of digits" if numbers else "Accepted, by digit",
        texts=_bars({text: figures.texts[text] for text in _labels(figures)}),
        hidden="hidden" if numbers else "",
        confidence=_bars(
            {f"from {100 * place // _BINS} %": int(count) for place, count in enumerate(figures.confidence)}
        ),
        reasons=_table({_REASONS.get(reason, reason): count for reason, count in figures.reasons.most_common()}),
        errors=_table(dict(figures.errors.most_common())),
        unread="".join(f"<li>{_link(row)}: {escape(row['error'])}</li>" for row in figures.unread),
        least_certain="".join(_tile(row, row["source"]) for row in figures.least_certain),
        rejected="".join(_tile(row, _file(results, row)) for row in figures.rejected),
        more=f"The {len(figures.rejected):,} least certain of {figures.reasons.total():,}, the least certain first.",
    )
    with results.writing(REPORT) as file:
        file.write(page.encode())
    return line


def write_csv(results: Results, names: Sequence[str]) -> None:
    """One table of all shards, without crops and boxes; the probabilities in columns of their own."""
    with results.writing(CSV) as file:
        writer = None
        for name in names:
            table = results.read(name).drop_columns("crop")
            if "numbers" in table.column_names:
                table = table.drop_columns("numbers")
            else:
                probabilities = table["probabilities"]
                table = table.drop_columns("probabilities")
                for digit in range(10):
                    table = table.append_column(f"p{digit}", pc.list_element(probabilities, digit))
            writer = writer or pcsv.CSVWriter(file, table.schema)
            writer.write_table(table)
        if writer:
            writer.close()


def _least(shown: list[Row], table: pa.Table, limit: int) -> list[Row]:
    """The least certain rows with a crop, of those shown so far and of the table."""
    more = table.filter(pc.is_valid(table["crop"])).sort_by("confidence").slice(0, limit).to_pylist()
    return heapq.nsmallest(limit, shown + more, key=lambda row: (row["confidence"], row["source"], row["key"]))


def _labels(figures: _Figures) -> list[str]:
    return sorted(figures.texts, key=int) if figures.numbers else [str(digit) for digit in range(10)]


def _bars(counts: Mapping[str, int]) -> str:
    most = max([*counts.values(), 1])
    return "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="bar"><div style="width:{count / most:.1%}"></div></td>'
        f"<td>{count:,}</td></tr>"
        for name, count in counts.items()
    )


def _table(counts: Mapping[str, int]) -> str:
    rows = [f'<tr><th scope="row">{escape(name)}</th><td>{count:,}</td></tr>' for name, count in counts.items()]
    return "".join(rows) or "<tr><td>none</td></tr>"


def _tile(row: Row, file: str) -> str:
    png = base64.b64encode(row["crop"]).decode()
    why = f"<span>{_REASONS.get(row['reason'], row['reason'])}</span>" if row["reason"] else ""
    return (
        f'<figure data-file="{escape(file)}"><img alt="" src="data:image/png;base64,{png}">'
        f"<figcaption><b>{escape(row['text'])}</b> {row['confidence']:.1%}{why}{_link(row)}</figcaption></figure>"
    )


def _link(row: Row) -> str:
    source, key = row["source"], row["key"]
    address = source if "://" in source else PurePosixPath(source).as_uri()
    text = key if kind_of(source) == "pictures" else f"{PurePosixPath(source).name}: {key}"
    return f'<a href="{escape(address)}" title="{escape(source)}">{escape(text)}</a>'


def _file(results: Results, row: Row) -> str:
    """The picture as a file, for training: the source, or the crop of what is in an archive, kept beside the report."""
    if kind_of(row["source"]) == "pictures":
        return str(row["source"])
    name = hashlib.sha256(f"{row['source']}\0{row['key']}".encode()).hexdigest()
    return results.keep(f"{CROPS}/{name}.png", row["crop"])
