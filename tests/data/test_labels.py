"""Tables of labels: what is read from them, how photos are split, and what is refused in which words."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from unicodedata import normalize

import pytest

from tests.data.test_folders import digests, names, paint, per_class, populate, read, refusal
from tests.kaggle import kaggle

FLAT = {"beagle": 10, "akita": 20}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Photos 0 to 5 in one folder."""
    for number in range(6):
        paint(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


def table(root: Path, content: str, encoding: str = "utf-8") -> Path:
    file = root.parent / "labels.csv"
    file.write_text(content, encoding=encoding)
    return file


def test_kaggle_as_it_comes_is_split_as_folders_are(tmp_path: Path) -> None:
    whole = read(populate(tmp_path / "photos", FLAT))
    labels = kaggle(tmp_path / "photos", tmp_path / "kaggle", splits=False)
    shutil.copytree(tmp_path / "kaggle" / "train", tmp_path / "kaggle" / "test", dirs_exist_ok=True)
    folders = read(tmp_path / "kaggle", labels=labels)
    assert folders.classes == ("akita", "beagle")
    assert per_class(folders) == per_class(whole) == {"train": [16, 8], "valid": [2, 1], "test": [2, 1]}
    for split in ("train", "valid", "test"):
        assert digests(folders, split) == digests(whole, split)
        assert {Path(name).parts[0] for name in names(folders, split)} == {"train"}
    # Of a thousand photos without labels there are no thousand lines.
    assert [line.split(":")[0] for line in folders.describe().splitlines()[4:]] == [
        "  left out, and why",
        "       30 in no row of data.labels",
        "        1 not a photo",
    ]


@pytest.mark.parametrize(
    ("header", "row", "encoding"),
    [
        ("file,label,split", "{}.png,{},{}", "utf-8"),
        ("Image;Class;set", "{};{};{}\n;;\n", "utf-8-sig"),
        ("id\tnote\tbreed\tsplit", '"{}"\t,;\t {} \t{}', "utf-8"),
        ("id,path,label,split\r", "9,./{},{},{}\r", "utf-8"),
        ('"id";"breed";"split"', '"{}";"{}";"{}";', "utf-8"),
        ("id, breed, split", '"{}", "{}", "{}"', "utf-8"),
    ],
    ids=["commas", "a spreadsheet", "tabs", "Windows", "all quoted", "blanks before quotation marks"],
)
def test_what_tables_may_look_like(root: Path, header: str, row: str, encoding: str) -> None:
    splits = ("train", "Train", "dev", "validation", "test", "testing")
    rows = [row.format(number, "baabab"[number], split) for number, split in enumerate(splits)]
    folders = read(root, labels=table(root, "\n".join([header, *rows]), encoding))
    assert folders.classes == ("a", "b")
    assert [names(folders, split) for split in ("train", "valid", "test")] == [
        ["1.png", "0.png"],
        ["2.png", "3.png"],
        ["4.png", "5.png"],
    ]
    assert folders.left_out == ()


def test_a_split_that_no_row_has_is_drawn(root: Path) -> None:
    for number in range(6, 12):
        paint(root / f"{number}.png")
    rows = "".join(f"{number},{'ab'[number % 2]},{'train' if number < 6 else 'test'}\n" for number in range(12))
    folders = read(root, labels=table(root, f"id,breed,split\n{rows}"))
    assert per_class(folders) == {"train": [2, 2], "valid": [1, 1], "test": [3, 3]}


def test_umlauts_are_those_of_every_system(root: Path) -> None:
    paint(root / normalize("NFD", "Hündin.png"))
    content = f"id,breed\nHündin,Löwchen\n0,{normalize('NFD', 'Löwchen')}\n1,Löwchen\n2,a\n3,a\n4,a\n"
    folders = read(root, labels=table(root, content))
    assert (folders.classes, sum(folders.counts().values())) == (("Löwchen", "a"), 6)


def test_what_is_left_out_and_told(root: Path) -> None:
    paint(root / "train" / "6.png", key="six")
    shutil.copy(root / "0.png", root / "7.png")
    (root / "8.png").write_bytes(b"broken")
    splits = {0: "train", 1: "train", 2: "valid", 3: "valid", 4: "test", 5: "test", 6: "train", 7: "valid", 8: "test"}
    rows = "".join(f"{number},{'ab'[number % 2]},{split}\n" for number, split in splits.items())
    labels = table(root, f"id,breed,split\n{rows}train/6,a,train\n")
    paint(root / "nobody's.png")
    folders = read(root, labels=labels)
    assert names(folders, "train") == ["0.png", "train/6.png", "1.png"]
    reasons = {path.relative_to(root).as_posix(): reason for path, reason in folders.left_out}
    assert reasons == {
        "train/6.png": "another row of data.labels says the same",
        "nobody's.png": "in no row of data.labels",
    }
    assert [path.name for path, _ in folders.unreadable] == ["8.png"]
    assert [[path.name for path in group] for group in folders.leaks] == [["0.png", "7.png"]]
    (root.parent / "wrong.csv").write_text("path\n7.png\ntrain/6.png\n")
    rest = read(root, labels=labels, exclude=root.parent / "wrong.csv")
    assert (rest.excluded, rest.leaks, names(rest, "train")) == (2, (), ["0.png", "1.png"])
    assert "7.png" in refusal(root, exclude=root.parent / "wrong.csv", labels=table(root, "id,breed\n0,a\n1,b\n"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "0.png,a\n1.png,b\n",
            "must name columns for a file (file, path, filename, file_name, image, id) and a label (label, breed",
        ),
        ("", "but it is ''."),
        ("id,breed\n", "labels.csv has no row."),
        ('"id,breed\n0,a\n', "but it is '\"id,breed'."),
        ("id," + "breed" * 30_000, "is no table after line 1: field larger than field limit"),
        ("id,breed\n0,a\n1,Poodle, miniature\n", "after line 2: more cells than columns in '1,Poodle,miniature'."),
        ("id,breed\n0,a\n1,a\n", "holds one class only (a)"),
        ("id,breed,split\n0,a,test\n1,b,valid\n", "has no row with the split train."),
        ("id,breed\n0,a\n1,\n2,b\n", "Rows that cannot be used: 1\n    line 3: 1, : no label\n"),
        ("id,breed\n0,a\n,b\n", "    line 3: , b: no file\n"),
        (
            "id,breed,split\n0,a,train\n1,b,holdout\n2,b\n",
            "used: 2\n    line 3: 1, b, holdout: the split is none of train, valid, test\n",
        ),
        ("id,breed\n0,a\n1,b\n0.png,b\n", "    line 4: 0.png, b: another label or split than in line 2: 0, a\n"),
        (
            "id,breed,split\n0,a,train\n1,b,train\n0,a,test\n",
            "    line 4: 0, a, test: another label or split than in line 2: 0, a, train\n",
        ),
        ("id,breed\n0,a\n1,b\n2.jpg,b\n9,b\n", "    line 4: 2.jpg, b: no such file\n    line 5: 9, b: no such file\n"),
        ('id,breed\n0,a\n1,"b\n2,b\n3,b\n', "after line 2: unexpected end of data. Look for a quotation mark"),
    ],
)
def test_tables_that_do_not_fit(root: Path, content: str, said: str) -> None:
    assert said in refusal(root, labels=table(root, content))


def test_rows_of_files_that_are_no_photos(root: Path) -> None:
    # A job gets the table and the photos, and would not find these files.
    (root / ".6.png").write_bytes((root / "0.png").read_bytes())
    (root / "7.txt").write_text("notes")
    message = refusal(root, labels=table(root, "id,breed\n0,a\n1,b\n.6.png,b\n7.txt,b\n"))
    assert "used: 2\n    line 4: .6.png, b: hidden\n    line 5: 7.txt, b: not a photo\n" in message


def test_of_many_rows_ten_are_named(root: Path) -> None:
    message = refusal(root, labels=table(root, "id,breed\n" + "".join(f"x{number},a\n" for number in range(1000))))
    assert (
        "used: 1000\n    line 2: x0, a: no such file\n" in message and "... and 990 more\nFiles are named by" in message
    )
    assert message.count("line ") == 10


def test_names_and_encodings_that_leave_a_doubt(root: Path) -> None:
    shutil.copy(root / "0.png", root / "0.jpg")
    assert "    line 2: 0, a: several files: 0.jpg and 0.png\n" in refusal(
        root, labels=table(root, "id,breed\n0,a\n1,b\n")
    )
    assert read(root, labels=table(root, "id,breed\n0.png,a\n1,b\n2,a\n3,b\n4,b\n5,a\n")).classes == ("a", "b")
    assert f"data.labels={root.parent}/labels.csv cannot be read as text" in refusal(
        root, labels=table(root, "id,breed\n0,ä\n", "utf-16")
    )
    assert "no such directory" in refusal(root / "nowhere", labels=table(root, "id,breed\n"))


def test_kaggle_without_its_table_is_no_two_classes(tmp_path: Path) -> None:
    kaggle(populate(tmp_path / "photos", FLAT), tmp_path / "kaggle", splits=False)
    root = tmp_path / "kaggle"
    paint(root / "test" / "0.png")
    (root / "a.csv").write_bytes(b"\xff\xfe")
    (root / "b.csv").write_text("id,akita,beagle\n")
    for place in (root, root / "train"):
        said = refusal(place)
        assert said.endswith(f": data.dir={place} data.labels={root}/labels.csv") and "\n" not in said
    (root / "labels.csv").unlink()
    assert "or the photos of a table, data.labels=<file>." in refusal(root)


def test_index_names_every_file(root: Path, tmp_path: Path) -> None:
    read(root, labels=table(root, "id,breed\n0,a\n1,b\n2,a\n3,b\n4,b\n5,a\n")).save(tmp_path / "index.csv")
    with (tmp_path / "index.csv").open(encoding="utf-8") as file:
        assert [(row["path"], row["class"]) for row in csv.DictReader(file)] == [
            (f"{number}.png", "ab"[number in (1, 3, 4)]) for number in range(6)
        ]
