"""Every door for a person's CSV reads the same oddities, and refuses the same doubts by name."""

from __future__ import annotations

import argparse
import gzip
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ml_pipeline.commands import backtest
from ml_pipeline.config.environment import StoreSettings
from ml_pipeline.config.settings import Settings
from ml_pipeline.datasets.csv_file import CsvFile
from ml_pipeline.datasets.dataset import Dataset, read_dataset
from ml_pipeline.datasets.label_file import checked_inputs, read_label_file
from ml_pipeline.datasets.labelled_file import LabelledFile, read_labelled
from ml_pipeline.errors import PipelineError
from ml_pipeline.evaluation_log.event_csv import EventCsv
from ml_pipeline.evaluation_log.frames import labelled_events
from ml_pipeline.evaluation_log.loading import load_log
from ml_pipeline.evaluation_log.opening import open_logger
from ml_pipeline.evaluation_log.outcomes import read_outcomes
from ml_pipeline.serving.batch_csv import BatchCsv, open_database
from ml_pipeline.store.embedded.store import LocalStore
from ml_pipeline.store.records import LookbackWindow
from tests.support.factories import make_id
from tests.support.logs import make_log_request

NOW = datetime(2026, 3, 20, 3, tzinfo=UTC)
NAMES = (
    "event_id", "match_id", "timestamp", "evaluated_at", "known_at", "night", "model_name",
    "model_id", "prediction", "confidence", "form", "strength", "result",
)  # fmt: skip
FEATURES = ["form", "strength"]
LABELS = ["H", "D", "A", "H", "A"]
NUMBERS = [(0.25, -1.5), (0.5, 2.0), (1.75, 1234.5), (-0.25, 7.0), (3.5, 0.001)]
SETTINGS = Settings().changed(
    {
        "data.features": FEATURES, "data.target": "result", "data.classes": ["H", "D", "A"],
        "data.time_column": "evaluated_at", "data.group_column": "match_id",
        "log.columns": {"actual_result": ["result"]},
    }
)  # fmt: skip
Table = list[list[str]]


def plain_table() -> Table:
    return [
        [*NAMES],
        *(
            [
                make_id(n), f"Tor-Müller {n}", f"2026-03-{10 + n:02d} 10:00:00",
                f"2026-03-{10 + n:02d} 12:00:00", f"2026-03-{10 + n:02d} 12:00:00", str(n),
                "default", "m-1", "H", "0.9", *map(str, NUMBERS[n]), LABELS[n],
            ]
            for n in range(5)
        ),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------ doors


def of_dataset(rows: Dataset) -> object:
    assert rows.times is not None
    assert rows.groups is not None
    return (
        rows.features.tolist(), rows.labels.tolist(), [str(t) for t in rows.times],
        rows.groups.tolist(),
    )  # fmt: skip


def by_training(path: Path, _folder: Path) -> object:
    return of_dataset(read_dataset(path, SETTINGS.data))


def by_labelled_rows(path: Path, _folder: Path) -> object:
    return of_dataset(read_labelled(str(path), SETTINGS))


def by_labelled_file(path: Path, _folder: Path) -> object:
    return of_dataset(LabelledFile.read(path, SETTINGS.data).last)


def by_outcomes(path: Path, _folder: Path) -> object:
    outcomes, blank = read_outcomes(path, SETTINGS, NOW)
    return [(o.key, o.value, o.actual, o.known_at) for o in outcomes], blank


def by_batch(path: Path, folder: Path) -> object:
    scorer: Any = SimpleNamespace(features=FEATURES, kinds=[], text_column=None, corrects=False)
    batch = BatchCsv.opened(str(path), scorer, imputes=False)
    (folder / "scratch").mkdir()
    with open_database(folder / "scratch") as db:
        total, unreadable = batch.load(db, folder / "scratch")
        wanted = [*map(batch.number, FEATURES), batch.cell("match_id"), "error"]
        rows = db.execute(f"SELECT {', '.join(wanted)} FROM input_rows ORDER BY rowid").fetchall()  # noqa: S608
    faults = [row[-1] for row in rows if row[-1]]
    if faults:
        raise PipelineError(" ".join(faults))
    return total, unreadable, rows


def of_log(path: Path, folder: Path) -> tuple[LocalStore, Settings]:
    settings = SETTINGS.changed({"log.source": str(path), "log.max_bad_rows": 0.0})
    return LocalStore.open(folder / "store"), settings


def by_log(path: Path, folder: Path) -> object:
    store, settings = of_log(path, folder)
    request = make_log_request(now=NOW, window=LookbackWindow.ending(NOW, days=30))
    loaded = load_log(store, settings, request, folder / "work")
    return loaded.labelled_path.read_text(), loaded.report.labelled


def by_analyse(path: Path, folder: Path) -> object:
    store, settings = of_log(path, folder)
    window = LookbackWindow.ending(NOW, days=30)
    events = labelled_events(store, settings, window, model_ids=None, work_dir=folder / "work")
    columns = ["event_id", "prediction", "actual_result", "confidence", "known_at", *FEATURES]
    return events[columns].to_dict("list")


def by_backtest(path: Path, _folder: Path) -> object:
    args = argparse.Namespace(
        csv=str(path), target="result", night=None, time="evaluated_at", drop=None, init=2,
        features="form,strength", local=None, label_delay_days=None,
    )  # fmt: skip
    history = backtest.read_history(args, SETTINGS)
    return history.features.tolist(), history.nights.tolist(), history.labels.tolist()


def by_labels(path: Path, _folder: Path) -> object:
    entries, blank = read_label_file(path, SETTINGS, now=NOW, source="test")
    read = [checked_inputs(entry.inputs, SETTINGS) for entry in entries]
    if any(reason for _, reason, _ in read):
        raise PipelineError(str(read))
    found = [(entry.id, entry.label.strip().upper()) for entry in entries]
    return found, [inputs for inputs, _, _ in read], blank


def by_reconcile(path: Path, folder: Path) -> object:
    settings = SETTINGS.changed({"log.csv_file": str(path)})
    with open_logger(settings, StoreSettings(local_dir=str(folder / "store"))) as logger:
        report = logger.reconcile_logs()
    if report["bad_lines"] or not report["missing_in_table"]:
        raise PipelineError(str(report))
    return report["csv_events"], report["ids"], report["models"]


DOORS: dict[str, Callable[[Path, Path], object]] = {
    name.removeprefix("by_"): door
    for name, door in list(globals().items())
    if name.startswith("by_")
}
LOGS = ("log", "analyse")

# --------------------------------------------------------------------------------- oddities


def written(table: Table, *, delimiter: str = ",", end: str = "\n", first: str = "") -> str:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if delimiter in text or '"' in text else text

    return first + "".join(delimiter.join(map(cell, row)) + end for row in table)


def commas(table: Table) -> Table:
    """Numbers as a spreadsheet with a decimal comma exports them."""
    numbers = [NAMES.index(name) for name in ("confidence", *FEATURES)]
    head, *rows = table
    return [head] + [
        [c.replace(".", ",") if n in numbers else c for n, c in enumerate(row)] for row in rows
    ]


def renamed(change: Callable[[str], str]) -> Table:
    head, *rows = plain_table()
    return [[change(name) for name in head], *rows]


def times(change: Callable[[str], str]) -> Table:
    places = [NAMES.index(name) for name in ("timestamp", "evaluated_at", "known_at")]
    head, *rows = plain_table()
    return [head] + [[change(c) if n in places else c for n, c in enumerate(row)] for row in rows]


def labels(**change: str) -> Table:
    head, *rows = plain_table()
    return [head] + [[*row[:-1], change.get(row[-1], row[-1])] for row in rows]


ODDITIES: dict[str, bytes] = {
    "semicolons": written(plain_table(), delimiter=";").encode(),
    "semicolons and decimal commas": written(commas(plain_table()), delimiter=";").encode(),
    "tabs": written(plain_table(), delimiter="\t").encode(),
    "tabs and decimal commas": written(commas(plain_table()), delimiter="\t").encode(),
    "bars": written(plain_table(), delimiter="|").encode(),
    "byte order mark": written(plain_table()).encode("utf-8-sig"),
    "UTF-16": written(plain_table()).encode("utf-16"),
    "UTF-16 of the other order": b"\xfe\xff" + written(plain_table()).encode("utf-16-be"),
    "UTF-16 without a mark": written(plain_table()).encode("utf-16-le"),
    "Unicode text of Excel": written(
        commas(plain_table()), delimiter="\t", end="\r\n"
    ).encode("utf-16"),
    "sep=,": written(plain_table(), first="sep=,\n").encode(),
    "sep=; of Excel": written(
        commas(plain_table()), delimiter=";", end="\r\n", first="sep=;\r\n"
    ).encode("utf-8-sig"),
    "names in capitals": written(renamed(str.upper)).encode(),
    "names with space": written(renamed(lambda name: f" {name.title()} ")).encode(),
    "Windows line ends": written(plain_table(), end="\r\n").encode(),
    "old Mac line ends": written(plain_table(), end="\r").encode(),
    "line ends of two kinds": (
        written(plain_table()[:3], end="\r\n") + written(plain_table()[3:], end="\n")
    ).encode(),
    "empty lines before the header": b"\r\n\n" + written(plain_table()).encode(),
    "packed": gzip.compress(written(plain_table()).encode()),
    "times in UTC": written(times(lambda t: f"{t} UTC")).encode(),
    "times with +00": written(times(lambda t: f"{t}+00")).encode(),
    "times with a space before +0000": written(times(lambda t: f"{t} +0000")).encode(),
    "times with z": written(times(lambda t: f"{t.replace(' ', 'T')}z")).encode(),
    "times with a comma": written(times(lambda t: f"{t},000")).encode(),
    "times with slashes": written(times(lambda t: t.replace("-", "/"))).encode(),
    "times of a zone": written(
        times(lambda t: t.replace(" 12", " 13").replace(" 10", " 11") + " Europe/Berlin")
    ).encode(),
    "labels with space": written(labels(H=" h ", D="d")).encode(),
}  # fmt: skip


def read(door: str, content: bytes, folder: Path) -> object:
    folder.mkdir(parents=True)
    path = folder / "rows.csv"
    path.write_bytes(content)
    return DOORS[door](path, folder)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What each door reads in the plainest file."""
    folder = tmp_path_factory.mktemp("plain")
    content = written(plain_table()).encode()
    return {door: read(door, content, folder / door) for door in DOORS}


# Several at once, as they come: what the everyday suite asks of every door.
EXPORTS: dict[str, bytes] = {
    "Excel, with a decimal comma": written(
        [[f" {name.upper()}" for name in NAMES], *commas(plain_table())[1:]],
        delimiter=";", end="\r\n", first="sep=;\r\n\r\n",
    ).encode("utf-8-sig"),
    "Excel, Unicode text": written(
        [[*NAMES], *commas(times(lambda t: f"{t} UTC"))[1:]], delimiter="\t", end="\r\n"
    ).encode("utf-16"),
    "two programs": gzip.compress((
        written(times(lambda t: f"{t}+00")[:3], end="\r\n") + written(plain_table()[3:])
    ).encode()),
}  # fmt: skip


@pytest.mark.parametrize("door", DOORS)
def test_every_door_reads_what_programs_export(
    door: str, usual: dict[str, object], tmp_path: Path
) -> None:
    assert _differing(door, usual, tmp_path, EXPORTS) == {}


@pytest.mark.long
@pytest.mark.parametrize("door", DOORS)
def test_every_door_reads_every_oddity(door: str, usual: dict[str, object], tmp_path: Path) -> None:
    assert _differing(door, usual, tmp_path, ODDITIES) == {}


def _differing(
    door: str, usual: dict[str, object], folder: Path, files: Mapping[str, bytes]
) -> dict[str, object]:
    differing = dict[str, object]()
    for number, (oddity, content) in enumerate(files.items()):
        try:
            found = read(door, content, folder / str(number))
        except PipelineError as error:
            found = str(error)
        if _comparable(found, usual[door], oddity, door) != usual[door]:
            differing[oddity] = found
    return differing


def _comparable(found: object, usual: object, oddity: str, door: str) -> object:
    # What is told of an outcome is what was written; the label is read when it is recorded. The
    # comparison of two logs compares what is written.
    if oddity == "labels with space" and door in {"outcomes", "reconcile"} and found:
        return usual
    return found


# ----------------------------------------------------------------------------------- doubts

DOUBTS: dict[str, tuple[bytes, Sequence[str], str]] = {
    # content, doors that look at it, words of the refusal
    "a decimal comma between commas": (
        written(commas(plain_table())).encode(),
        ("training", "labelled_rows", "labelled_file", "batch", "log", "analyse", "backtest",
         "labels"),
        "comma in a number is read as the decimal mark only where",
    ),
    "thousands or decimals": (
        written(plain_table(), delimiter=";").replace("1234.5", "1,234").replace(";2.0;", ";2,500;")
        .replace(";-1.5;", ";1,000;").replace(";0.001;", ";9,100;").encode(),
        ("training", "labelled_rows", "labelled_file", "batch", "backtest", "labels"),
        "comma in a number is read as the decimal mark only where",
    ),
    "day or month": (
        written(times(lambda _: "03/04/2026 10:00")).encode(),
        ("training", "labelled_rows", "labelled_file", "outcomes", "log", "analyse", "backtest"),
        "03/04/2026",
    ),
    "a spreadsheet's number of a day": (
        written(times(lambda _: "46091.5")).encode(),
        ("training", "labelled_rows", "labelled_file", "outcomes", "log", "analyse", "backtest"),
        "2026-03-14T15:00:00Z",
    ),
    "an old code page": (
        written(plain_table()).encode("cp1252"),
        ("training", "labelled_rows", "outcomes", "batch", "backtest", "labels"),
        "valid UTF-8",
    ),
    "a workbook": (b"PK\x03\x04" + bytes(200), tuple(DOORS), "workbook"),
    "no text": (bytes(range(256)) * 9, tuple(DOORS), "no text"),
    "nothing": (b"\xef\xbb\xbf\n", [door for door in DOORS if door != "reconcile"], "is empty"),
    "two columns of a name": (
        written([[*row, *row[10:13], *row[:4]] for row in renamed(str.upper)]).encode(),
        tuple(DOORS), "Rename or drop one of",
    ),
    "local time": (
        written(times(lambda _: "2026-03-20 05:00:00")).encode(),
        ("outcomes", "log", "analyse"),
        "a time without a zone is read as UTC; write local times with theirs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("doubt", DOUBTS)
def test_what_is_in_doubt_is_refused_with_its_cause_and_a_way_out(
    doubt: str, tmp_path: Path
) -> None:
    content, doors, words = DOUBTS[doubt]
    wrong = dict[str, object]()
    for door in doors:
        try:
            wrong[door] = read(door, content, tmp_path / door)
        except PipelineError as error:
            if words not in str(error):
                wrong[door] = str(error)
    assert not wrong


def test_a_column_is_found_in_any_case_unless_two_are_meant(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("Form, STRENGTH ,form,a\n")
    file = CsvFile.opened(tmp_path / "x.csv")
    assert (file.place("form"), file.place("Form"), file.place("strength")) == (2, 0, 1)
    assert file.place("b") is None
    with pytest.raises(PipelineError, match="two columns called 'Form'"):
        file.place("FORM")


def test_a_log_that_a_spreadsheet_saved_is_not_written_into(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(written(plain_table(), delimiter=";"))
    before = path.read_bytes()
    with pytest.raises(PipelineError, match="is no evaluation log"):
        EventCsv(str(path)).append([])
    assert path.read_bytes() == before


def test_a_cell_of_any_length_that_nobody_reads_is_no_reason_to_refuse_a_file(
    tmp_path: Path,
) -> None:
    path = tmp_path / "outcomes.csv"
    path.write_text("match_id,page,actual_result\n1," + "x" * 200_000 + ",H\n")
    code = (
        "import sys; from pathlib import Path; from ml_pipeline.datasets.csv_file import CsvFile; "
        "print([cells[2] for _, cells in CsvFile.opened(Path(sys.argv[1])).records()])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], check=False, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("['H']\n", "")
