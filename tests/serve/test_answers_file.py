from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dogbreeds.errors import ConfigError, UserError
from dogbreeds.serve import answers_file
from dogbreeds.serve.answers_file import Row, check_out, error_row, write_rows


def answered(path: str, *breeds: str) -> tuple[Row, bool]:
    top = [{"breed": breed, "index": index, "probability": 1 / (index + 2)} for index, breed in enumerate(breeds)]
    return {"path": path, **top[0], "known": len(top) > 3, "score": float(len(top)), "top": top}, True


ROWS = [
    answered("a, b.jpg", "Pug", "Épagneul", "Beagle"),
    ({"path": "c.jpg", "error": "not an image"}, False),
    answered("d.jpg", "Beagle", "Pug", "Shih-Tzu", "Samoyed", "Dingo"),
]


def written(path: Path) -> str:
    assert write_rows(ROWS, path, len(ROWS)) == 1
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    return path.read_text(encoding="utf-8")


def test_json_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = written(tmp_path / "answers.jsonl")
    assert [json.loads(line) for line in lines.splitlines()] == [row for row, _ in ROWS]
    assert "Épagneul" in lines
    assert capsys.readouterr().out == ""
    assert write_rows(ROWS, None, len(ROWS)) == 1
    assert capsys.readouterr().out == lines


def test_csv(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(written(tmp_path / "answers.CSV"))))
    assert [row["path"] for row in rows] == ["a, b.jpg", "c.jpg", "d.jpg"]
    first, unreadable, last = rows
    assert (first["breed"], first["index"], first["probability"]) == ("Pug", "0", "0.5")
    assert (first["breed_2"], first["breed_3"], first["breed_4"]) == ("Épagneul", "Beagle", "")
    assert float(first["probability_3"]) == 1 / 4
    assert [(row["known"], row["score"]) for row in rows] == [("false", "3.0"), ("", ""), ("true", "5.0")]
    assert {name for name, value in unreadable.items() if value} == {"path", "error"}
    assert (last["breed_5"], last["error"]) == ("Dingo", "")


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(answers_file, "_GROUP", 2)
    path = tmp_path / "answers.parquet"
    assert write_rows(ROWS, path, len(ROWS)) == 1
    table = parquet.read_table(path)
    nothing = dict.fromkeys(("breed", "index", "probability", "known", "score", "top", "error"))
    assert table.to_pylist() == [nothing | row for row, _ in ROWS]
    assert parquet.ParquetFile(path).metadata.num_row_groups == 2
    write_rows([], path, 0)
    assert parquet.read_table(path).schema == table.schema


@pytest.mark.parametrize("name", ["answers.csv", "answers.jsonl", "answers.parquet"])
@pytest.mark.parametrize("ending", [KeyboardInterrupt(), UserError("401")])
def test_an_end_too_early_keeps_what_was_answered_and_what_was_there(
    name: str, ending: BaseException, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")

    def ended() -> Iterator[tuple[Row, bool]]:
        yield from ROWS[:2]
        raise ending

    path = tmp_path / name
    kept = tmp_path / f"answers.partial{path.suffix}"
    path.write_text("before")
    with pytest.raises(type(ending)):
        write_rows(ended(), path, 3)
    assert path.read_text() == "before"
    assert {one.name for one in tmp_path.iterdir()} == {name, kept.name}
    assert f"{kept} has the 2 rows so far." in capsys.readouterr().err
    if path.suffix == ".parquet":
        rows = parquet.read_table(kept).to_pylist()
    else:
        text = kept.read_text(encoding="utf-8")
        rows = list(csv.DictReader(io.StringIO(text))) if path.suffix == ".csv" else map(json.loads, text.splitlines())
    assert [row["path"] for row in rows] == ["a, b.jpg", "c.jpg"]
    path.unlink()
    kept.with_name("others.partial.csv").touch()
    assert write_rows(ROWS, path, len(ROWS)) == 1
    assert {one.name for one in tmp_path.iterdir()} == {name, "others.partial.csv"}


def test_an_end_before_the_first_answer_leaves_nothing(tmp_path: Path) -> None:
    def ended() -> Iterator[tuple[Row, bool]]:
        raise UserError("401")
        yield ROWS[0]

    with pytest.raises(UserError, match="401"):
        write_rows(ended(), tmp_path / "answers.csv", 3)
    assert list(tmp_path.iterdir()) == []


def test_where_answers_go(tmp_path: Path) -> None:
    assert check_out(None) is None
    assert check_out(str(tmp_path / "answers.csv")) == tmp_path / "answers.csv"
    for out in ("answers", "answers.xlsx", "answers.csv.gz"):
        with pytest.raises(ConfigError, match=r"must end in \.csv, \.jsonl, \.parquet"):
            check_out(str(tmp_path / out))
    with pytest.raises(ConfigError, match="there is no"):
        check_out(str(tmp_path / "missing" / "answers.csv"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigError, match="that is a folder"):
        check_out(str(tmp_path / "folder.csv"))


def test_parquet_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str, *_: Any) -> None:
        assert name == "pyarrow"

    monkeypatch.setattr(answers_file, "find_spec", without)
    with pytest.raises(ConfigError, match="pip install pyarrow"):
        check_out(str(tmp_path / "answers.parquet"))
    assert check_out(str(tmp_path / "answers.csv"))


def test_names_of_files_that_are_no_text(tmp_path: Path) -> None:
    path = Path(os.fsdecode(b"b\xe9.jpg"))
    out = tmp_path / "answers.csv"
    assert write_rows([(error_row(path, ValueError("no photo")), False)], out, 1) == 1
    assert "b\\xe9.jpg" in out.read_text(encoding="utf-8")
