"""What a file is found to be, and what is refused of it, each fault with its way out."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import pytest

from ml_pipeline.config.kind import Kind
from ml_pipeline.datasets.inspection.inspecting import (
    NONE,
    Inspection,
    Question,
    Wishes,
    inspect,
)
from ml_pipeline.datasets.inspection.leakage import Relation
from ml_pipeline.datasets.inspection.table import Table, read_table
from ml_pipeline.errors import DataError

ROWS = 120


def by_default(question: Question) -> str:
    return question.default


def table_of(folder: Path, header: str, row: Callable[[int], str], rows: int = ROWS) -> Table:
    path = folder / "rows.csv"
    lines = [header, *(row(number) for number in range(rows))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_table(path)


def found_in(table: Table, target: str = "y", **wishes: str) -> Inspection:
    return inspect(table, Wishes(target=target, **wishes), by_default, least_rows=50)


def refusal(table: Table, target: str | None = "y", **wishes: str) -> DataError:
    with pytest.raises(DataError) as caught:
        inspect(table, Wishes(target=target, **wishes), by_default, least_rows=50)
    assert caught.value.hint
    return caught.value


def label(number: int) -> str:
    return "yes" if random.Random(number).random() < 0.4 else "no"


def kinds(found: Inspection) -> dict[str, Kind]:
    return {feature.name: feature.kind for feature in found.features}


def test_columns_find_their_places(tmp_path: Path) -> None:
    def row(number: int) -> str:
        draw = random.Random(number + ROWS)
        day = f"2026-03-{1 + number // 5:02d}"
        return (
            f"c{number % 60},{day},{draw.random():.3f},{draw.choice('abc')},"
            f"{draw.choice(['true', 'false'])},{day if number % 3 else ''},{number},only,"
            f"note {number},0{draw.randint(1000, 9999)},{label(number)}"
        )

    header = "customer_id,seen_on,score,plan,is_new,born_on,line,same,name,zip,y"
    found = found_in(table_of(tmp_path, header, row))
    assert kinds(found) == {
        "score": Kind.NUMBER,
        "plan": Kind.CATEGORY,
        "is_new": Kind.BOOLEAN,
        "born_on": Kind.DATETIME,
        "zip": Kind.CATEGORY,
    }
    assert (found.time_column, found.id_column, found.id_repeats) == (
        "seen_on", "customer_id", True,
    )  # fmt: skip
    assert found.left_out == {
        "line": "numbers the rows",
        "same": "has the same value in every row",
        "name": "has a value of its own in nearly every row, as an id or a name",
    }
    assert found.classes.counts == {
        text: sum(label(number) == text for number in range(ROWS)) for text in ("no", "yes")
    }
    gaps = {feature.name: round(feature.missing, 2) for feature in found.features}
    assert gaps["born_on"] == 0.33
    assert found.suspects == ()


LEAKS: dict[str, tuple[Callable[[int], str], Relation]] = {
    "the target itself": (label, Relation.EQUALS),
    "the target under other names": (
        lambda n: {"yes": "1", "no": "0"}[label(n)],
        Relation.EQUALS,
    ),
    "finer than the target": (
        lambda n: {"yes": "left", "no": ("stays", "grows")[n % 2]}[label(n)],
        Relation.DETERMINES,
    ),
    "filled in afterwards alone": (
        lambda n: (
            f"2026-04-{1 + n % 28:02d}T{n % 24:02d}:{n % 60:02d}:00Z" if label(n) == "yes" else ""
        ),
        Relation.DETERMINES,
    ),
    "a number over a bound": (
        lambda n: f"{random.Random(n).random() + (label(n) == 'yes'):.4f}",
        Relation.DETERMINES,
    ),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_column_that_knows_the_result_is_left_out_unless_somebody_wants_it(
    tmp_path: Path, leak: str
) -> None:
    cell, relation = LEAKS[leak]
    table = table_of(
        tmp_path, "a,b,y", lambda n: f"{random.Random(n + ROWS).random():.3f},{cell(n)},{label(n)}"
    )
    found = found_in(table)
    (suspect,) = found.suspects
    assert (suspect.name, suspect.relation) == ("b", relation)
    assert found.names == ["a"]
    assert "leakage" in found.left_out["b"]
    kept = inspect(table, Wishes(target="y"), lambda _: "yes", least_rows=50)
    assert kept.names == ["a", "b"]


@pytest.mark.parametrize("kinds", ["bad odd ok ok", "bad" + " odd" * 4 + " ok" * 15])
@pytest.mark.parametrize(
    "cell",
    [
        lambda _, is_bad: str(int(not is_bad)),
        lambda n, is_bad: f"{random.Random(n + 1000).random() + is_bad:.4f}",
    ],
    ids=["a truth", "a number over a bound"],
)
def test_a_column_that_knows_one_of_several_classes_is_named_and_stays(
    tmp_path: Path, kinds: str, cell: Callable[[int, bool], str]
) -> None:
    def cells(n: int) -> str:
        kind = random.Random(n).choice(kinds.split())
        return f"{random.Random(n + 2000).random():.3f},{cell(n, kind == 'bad')},{kind}"

    found = found_in(table_of(tmp_path, "a,paid_back,y", cells, rows=800))
    (suspect,) = found.suspects
    assert suspect.sentence("y") == (
        "paid_back alone tells in practically every row whether y is bad"
    )
    assert "paid_back" in found.names


def test_an_ordinary_good_feature_is_no_suspect(tmp_path: Path) -> None:
    table = table_of(
        tmp_path,
        "a,y",
        lambda n: (
            f"{random.Random(n + ROWS).gauss(0, 0.7) + 2 * (label(n) == 'yes'):.3f},{label(n)}"
        ),
    )
    assert found_in(table).suspects == ()


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (lambda _: "no", "is 'no' in every row that has a result"),
        (lambda _: "", "y is empty in every row"),
        (lambda n: f"{n * 0.37:.3f}", "a quantity, which a regression predicts"),
        (str, "a quantity, which a regression predicts"),
        (lambda n: f"t{n}", "at most 100 classes can be told apart"),
        (lambda n: ("yes", "UNCERTAIN")[n % 2], "no class may be called so"),
    ],
)
def test_a_target_that_is_none_is_refused_with_its_reason(
    tmp_path: Path, cell: Callable[[int], str], words: str
) -> None:
    error = refusal(table_of(tmp_path, "a,y", lambda n: f"{n % 7},{cell(n)}"))
    assert words in error.message


def test_spellings_of_a_class_are_one_and_open_rows_wait(tmp_path: Path) -> None:
    spelt = ("Yes", "yes", " YES ", "No", "no", "", "NaN", "No")
    table = table_of(tmp_path, "a,y", lambda n: f"{n % 7},{spelt[n % 8]}")
    found = found_in(table)
    assert found.classes.counts in ({"No": 45, "Yes": 45}, {"No": 45, "yes": 45})  # fmt: skip
    assert found.classes.unlabelled == 30
    assert len(found.frame) == 90
    truths = table_of(tmp_path, "a,y", lambda n: f"{n % 7},{('true', '1', 'False', '0')[n % 4]}")
    assert set(found_in(truths).classes.counts) == {"true", "False"}


def test_what_is_not_there_is_named_with_what_was_meant(tmp_path: Path) -> None:
    table = table_of(tmp_path, "age,Churned", lambda n: f"{n % 7},{label(n)}")
    assert found_in(table, "churned").target == "Churned"
    error = refusal(table, "churnd")
    assert "has no column 'churnd'. Did you mean 'Churned'?" in error.message
    assert "age, Churned" in error.hint
    assert "nobody says which column" in refusal(table, None).message
    assert "has no column 'when'" in refusal(table, "Churned", time_column="when").message
    assert "cannot be the id as well" in refusal(table, "Churned", id_column="churned").message


def test_a_time_that_cannot_be_read_is_refused_or_not_taken(tmp_path: Path) -> None:
    table = table_of(tmp_path, "day,a,y", lambda n: f"03/04/20{n % 20:02d},{n % 7},{label(n)}")
    error = refusal(table, time_column="day")
    assert "day is not an ISO 8601 time" in error.message
    assert "which the month" in error.hint
    assert found_in(table).time_column is None


def test_of_several_times_the_one_is_asked_for(tmp_path: Path) -> None:
    asked: list[Question] = []

    def ask(question: Question) -> str:
        asked.append(question)
        return "b_day"

    table = table_of(
        tmp_path, "a_day,b_day,closed_at,x,y",
        lambda n: f"2026-01-{1 + n % 28:02d},2026-02-{1 + n % 27:02d},2026-03-01T{n % 24:02d}:00,"
        f"{n % 7},{label(n)}",
    )  # fmt: skip
    found = inspect(table, Wishes(target="y"), ask, least_rows=50)
    assert found.time_column == "b_day"
    assert [question.options for question in asked] == [("a_day", "b_day", NONE)]
    assert kinds(found)["a_day"] is Kind.DATETIME


NAMES = ['he said "x"', "a.b.c", "👍", "n" * 300, "yes", "# no", "a: b", "'", "\\", "Age", "age"]


def test_names_of_every_sort_are_features(tmp_path: Path) -> None:
    header = ",".join('"' + name.replace('"', '""') + '"' for name in [*NAMES, "y"])
    table = table_of(
        tmp_path, header, lambda n: ",".join([*(str((n + k) % 7) for k in range(11)), label(n)])
    )
    assert found_in(table).names == NAMES


def test_names_that_are_there_twice_or_not_at_all_are_left_out(tmp_path: Path) -> None:
    table = table_of(tmp_path, "a,a,,b,y", lambda n: f"{n % 7},1,2,{n % 5},{label(n)}")
    found = found_in(table)
    assert found.names == ["b"]
    assert "nobody can tell which" in found.left_out["a"]
    assert "stands there 2 times" in refusal(table, "a").message


def test_a_column_that_is_called_like_one_of_the_log_is_left_out(tmp_path: Path) -> None:
    table = table_of(tmp_path, "confidence,a,y", lambda n: f"{n % 7},{n % 5},{label(n)}")
    wishes = Wishes(target="y", reserved=("confidence",))
    found = inspect(table, wishes, by_default, least_rows=50)
    assert found.names == ["a"]
    assert "rename it" in found.left_out["confidence"]


def test_the_answers_of_an_incumbent_are_left_out(tmp_path: Path) -> None:
    table = table_of(tmp_path, "incumbent:yes,a,y", lambda n: f"0.{n % 7},{n % 5},{label(n)}")
    found = found_in(table)
    assert found.names == ["a"]
    assert "answer of an incumbent" in found.left_out["incumbent:yes"]


def test_too_few_rows_and_no_features_are_refused(tmp_path: Path) -> None:
    few = table_of(tmp_path, "a,y", lambda n: f"{n},{('yes', 'no')[n % 2]}", rows=3)
    assert "3 rows with a result: too few" in refusal(few).message
    none = table_of(tmp_path, "a,b,y", lambda n: f"x,{label(n)},{label(n)}")
    error = refusal(none)
    assert "a has the same value in every row" in error.message
    assert "b equals y" in error.message


BROKEN: Sequence[tuple[bytes, str, str]] = (
    (b"", "rows.csv", "is empty"),
    (b"a,y\n", "rows.csv", "has a header and no rows"),
    (b"a,y\n1,2\n1,2,3,4\n", "rows.csv", "cannot be read as CSV"),
    (b'a,y\n1,"2\n', "rows.csv", "cannot be read as CSV"),
    (bytes(range(256)) * 40, "rows.csv", "is no text"),
    (b"\x89PNG\r\n\x1a\n" + b"\0\0\rIHDR\x08\2\x99" * 9, "rows.csv", "is no text"),
    (b"a,y\n1,\xff\xfe\n", "rows.csv", "is not valid UTF-8"),
    (b"no parquet", "rows.parquet", "cannot be read"),
)


@pytest.mark.parametrize(("content", "name", "words"), BROKEN)
def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: Path, content: bytes, name: str, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_table(tmp_path / name)


def test_no_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(DataError, match="is not a file"):
        read_table(tmp_path)


def test_a_parquet_file_is_found_to_be_what_its_csv_is(tmp_path: Path) -> None:
    table = table_of(
        tmp_path,
        "day,a,b,y",
        lambda n: f"2026-01-{1 + n % 28:02d},{n % 7 or ''},{n % 2},{label(n)}",
    )
    path = tmp_path / "rows.parquet"
    with duckdb.connect() as database:
        rows = f"FROM read_csv('{table.source}', all_varchar = true)"
        database.execute(f"COPY ({rows}) TO '{path}' (FORMAT parquet)")
    csv, parquet = found_in(table), found_in(read_table(path))
    assert parquet.names == csv.names == ["a", "b"]
    assert parquet.time_column == csv.time_column == "day"
    assert parquet.classes == csv.classes


def test_of_a_large_file_a_sample_is_read_and_every_result_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 60_000
    path = tmp_path / "large.csv"
    path.write_text("a,y\n" + "".join(f"{n},{'nno'[n % 3]}\n" for n in range(rows)))
    whole = read_table(path)
    monkeypatch.setattr("ml_pipeline.datasets.inspection.table.BIG_BYTES", 1)
    sampled = read_table(path)
    assert sampled.rows == whole.rows == rows
    assert sampled.frame.equals(whole.frame)
    assert sampled.counts("y") == whole.counts("y") == {"n": 40_000, "o": 20_000}
