"""A table is read as a spreadsheet wrote it, or refused with the line that is wrong."""

from dataclasses import replace
from pathlib import Path

import pytest

from medvid.contract import Record, SourceError
from medvid.data.manifest import write_manifest
from medvid.io.slice_truth import instance_key
from medvid.sources import load_adapter

table = load_adapter("table")
DATA = Path(__file__).parents[2].parent / "shared/data"


def write(folder: Path, text: str, *, encoding: str = "utf-8", files: str = "abc") -> Path:
    for name in files:
        (folder / f"{name}.npy").touch()
    path = folder / "labels.csv"
    path.write_bytes(text.encode(encoding))
    return path


def read(path: Path) -> list[Record]:
    return list(table.records(path))


def refuse(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        read(path)
    return caught.value.message


def test_columns_become_a_record(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "case_id,patient_id,path,label,x_mm,y_mm,z_mm,split,fold,series,age\n"
        "1,p,a.npy,yes,-1.5,2,3e1,train,2,ab12,64\n",
    )
    assert read(path) == [
        Record(
            "1",
            "p",
            str(tmp_path / "a.npy"),
            series="ab12",
            label="yes",
            center=(-1.5, 2.0, 30.0),
            split="train",
            fold=2,
            extra={"age": "64"},
        )
    ]


def test_german_excel_is_read(tmp_path: Path) -> None:
    head = "case_id;patient_id;path;label;x_mm;y_mm;z_mm\r\n"
    text = head + "1;Müller;a.npy;ja;-1,5;2,25;0\r\n;;;;;;\r\n"
    (record,) = read(write(tmp_path, text, encoding="cp1252"))
    assert (record.patient_id, record.center) == ("Müller", (-1.5, 2.25, 0.0))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_encodings_and_separators_do_not_matter(tmp_path: Path, encoding: str, mark: str) -> None:
    text = "case_id,patient_id,path,label\n1,ä,a.npy,gut\n".replace(",", mark)
    (record,) = read(write(tmp_path, text, encoding=encoding))
    assert (record.patient_id, record.label) == ("ä", "gut")


def test_classes_are_in_natural_order(tmp_path: Path) -> None:
    text = "case_id,patient_id,path,label\n1,1,a.npy,grade 10\n2,2,b.npy,grade 2\n3,3,c.npy,\n"
    path = write(tmp_path, text)
    assert table.classes(path) == ("grade 2", "grade 10")
    assert read(path)[2].label is None


def test_findings_have_three_answers(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "case_id,patient_id,path,label_oedema,label_any\n1,1,a.npy,1.0,0\n2,2,b.npy,,1\n3,3,c.npy,,\n",
    )
    assert [record.label for record in read(path)] == [{"oedema": 1, "any": 0}, {"any": 1}, None]
    assert table.classes(path) == ("any", "oedema")


def test_rows_of_one_case_label_its_slices(tmp_path: Path) -> None:
    text = "case_id,patient_id,path,slice,label\n1,p,a.npy,4,yes\n1,p,a.npy,0,no\n1,p,a.npy,,yes\n"
    (record,) = read(write(tmp_path, text))
    assert record.slice_labels == {4: "yes", 0: "no"}
    assert record.label == "yes"


def test_slices_may_be_named_by_uid_position_or_place_in_the_file(tmp_path: Path) -> None:
    text = (
        "case_id,patient_id,path,label,sop_uid,slice_at,slice_file,slice\n"
        '1,p,a.npy,yes,1.2.3,,,\n1,p,a.npy,no,1.2.4#2,,,\n1,p,a.npy,no,,"-3,5",,\n'
        "1,p,a.npy,yes,,,7,\n1,p,a.npy,no,,,,0\n"
    )
    (record,) = read(write(tmp_path, text))
    assert record.slice_labels == {0: "no"}
    assert record.placed_labels == {
        instance_key("1.2.3"): "yes",
        instance_key("1.2.4", 2): "no",
        -3.5: "no",
        "file:7": "yes",
    }


def test_a_slice_that_is_named_without_a_label_is_to_be_predicted(tmp_path: Path) -> None:
    (record,) = read(write(tmp_path, "case_id,patient_id,path,label,slice_at\n1,p,a.npy,,5\n"))
    assert (record.slice_labels, record.placed_labels) == ({}, None)


def test_backslashes_of_windows_are_folders(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.npy").touch()
    (record,) = read(write(tmp_path, "case_id,patient_id,path\n1,p,sub\\a.npy\n"))
    assert Path(record.path) == tmp_path / "sub/a.npy"


def test_excels_own_first_line_names_the_separator(tmp_path: Path) -> None:
    path = write(tmp_path, "sep=;\ncase_id;patient_id;path;fold\n1;p;a.npy;x\n")
    assert "line 3 has `x` in the column `fold`" in refuse(path)


def test_a_written_manifest_is_read_back(tmp_path: Path) -> None:
    write(tmp_path, "")
    paths = [str(tmp_path / f"{name}.npy") for name in "abc"]
    records = [
        Record("1", "p", paths[0], label="x", center=(0.1, -2.0, 1e-3), split="val", fold=0),
        Record("2", "p", paths[1], series="ab12", slice_labels={0: "x", 7: "y"}),
        Record("3", "q", paths[2], label='ü, "quoted"', extra={"age": "64"}),
    ]
    write_manifest(tmp_path / "manifest.csv", records)
    found = read(tmp_path / "manifest.csv")
    assert [replace(record, extra={}) for record in found] == [
        replace(record, extra={}) for record in records
    ]
    assert found[2].extra == {"age": "64"}


def test_a_table_without_labels_is_for_prediction(tmp_path: Path) -> None:
    (record,) = read(write(tmp_path, "case_id,patient_id,path\n1,p,a.npy\n"))
    assert record.label is None


def test_a_missing_patient_column_is_refused_with_the_reason(tmp_path: Path) -> None:
    message = refuse(write(tmp_path, "case_id,PatientID,path\n1,p,a.npy\n"))
    assert "no column `patient_id`" in message
    assert "training and test at once" in message
    assert "Is it `PatientID`?" in message


def test_a_typo_in_label_is_not_taken_for_an_unlabelled_table(tmp_path: Path) -> None:
    assert "Is it `lable`?" in refuse(
        write(tmp_path, "case_id,patient_id,path,lable\n1,p,a.npy,x\n")
    )


def test_missing_files_are_counted_and_the_first_five_named(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n},gone_{n}.npy,x\n" for n in range(8))
    path = write(tmp_path, f"case_id,patient_id,path,label\na,a,a.npy,x\n{rows}")
    message = refuse(path)
    assert "8 of 9 files" in message
    assert "line 3: " in message
    assert "gone_4.npy; and 3 more" in message
    assert "gone_5" not in message
    assert len(list(table.records(path, check_files=False))) == 9


HEAD = "case_id,patient_id,path,label,slice,x_mm,y_mm,z_mm,split,fold\n"


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("1,p,a.npy,x\n1,p,a.npy,x\n", "line 3 repeats the case `1`"),
        ("1,p,a.npy,x,2\n1,p,a.npy,x,2\n", "line 3 repeats the case `1`, slice 2"),
        ("1,p,a.npy,x,0\n1,q,a.npy,x,1\n", "line 3 gives the case `1` the patient_id `q`"),
        ("1,,a.npy,x\n", "line 2 has no `patient_id`"),
        ("1,p,a.npy,x,last\n", "line 2 has `last` in the column `slice`"),
        ("1,p,a.npy,x,-1\n", "line 2 has `-1` in the column `slice`"),
        ("1,p,a.npy,x,,1,2,\n", "line 2 has `` in the column `z_mm`"),
        ("1,p,a.npy,x,,1,2,nan\n", "line 2 has `nan` in the column `z_mm`"),
        ("1,p,a.npy,x,,,,,holdout\n", "split `holdout`. Splits are train, val, test"),
        ("1,p,a.npy,nan\n", "line 2 has `nan` in the column `label`, which would be a class"),
        ("1,p,a.npy,x\n2,p,b.npy,NA\n", "line 3 has `NA` in the column `label`"),
        ("1,p,a.npy,NULL\n", "line 2 has `NULL` in the column `label`"),
        ("1,p,a.npy,#VALUE!\n", "line 2 has `#VALUE!` in the column `label`"),
        ("1,p,a.npy,#NV\n", "line 2 has `#NV` in the column `label`"),
        ("1,p,a.npy,x,,1,2,1_0\n", "line 2 has `1_0` in the column `z_mm`"),
        ('1,p,a.npy,x,,1,2,"1,234"\n', "may be a decimal one or part the thousands"),
        ("1,p,a.npy,x,1_0\n", "line 2 has `1_0` in the column `slice`"),
        ("1,p,a.npy,x,1.000\n", "line 2 has `1.000` in the column `slice`"),
        (f"1,p,a.npy,x,{'9' * 5000}\n", f"has `{'9' * 40}...` in the column `slice`"),
        ("1,p,a.npy,x,,,,,,one\n", "line 2 has `one` in the column `fold`"),
        ("1,p,a.npy,x,,,,,,,surplus\n", "`surplus` stands in a column without a name"),
    ],
)
def test_a_wrong_cell_is_named_with_its_line(tmp_path: Path, rows: str, sentence: str) -> None:
    assert sentence in refuse(write(tmp_path, HEAD + rows))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("case_id,patient_id,path,label_a\n1,p,a.npy,yes\n", "`yes` in the column `label_a`"),
        ("case_id,patient_id,path,label,label_a\n1,p,a.npy,x,1\n", "both `label` and `label_a`"),
        ("case_id,patient_id,path,x_mm\n1,p,a.npy,1\n", "not all of x_mm, y_mm, z_mm"),
        ("case_id,patient_id,path,path\n1,p,a.npy,b.npy\n", "column `path` more than once"),
        ("\n", "is empty"),
        (
            "case_id,patient_id,path,slice,slice_at\n1,p,a.npy,1,5\n",
            "by `slice` and by `slice_at`",
        ),
        (
            "case_id,patient_id,path,slice_at\n1,p,a.npy,high\n",
            "`high` in the column `slice_at`",
        ),
        ("case_id,patient_id,path,sop_uid\n1,p,a.npy,1.2#0\n", "frames are counted from 1"),
        (
            "case_id,patient_id,path,sop_uid\n1,p,a.npy,1.2\n1,p,a.npy,1.2\n",
            f"line 3 repeats the case `1`, sop_uid {instance_key('1.2')}",
        ),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    assert sentence in refuse(write(tmp_path, text))


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ("path,Label_A,label_b", "column `Label_A`, and `label_` has a meaning in small letters"),
        ("path,label,Split", "column `Split`, and `split` has a meaning in small letters only"),
        ("path,label,FOLD", "column `FOLD`, and `fold` has a meaning"),
        ("path_a,Path_b,label", "column `Path_b`, and `path_` has a meaning"),
        ("path_a,label,Series_a", "column `Series_a`, and `series_` has a meaning"),
        ("path_a,label,series_c", "column `series_c` and no `path_c`, and would choose no series"),
    ],
)
def test_a_column_that_seems_to_have_a_meaning_is_refused(
    tmp_path: Path, columns: str, sentence: str
) -> None:
    assert sentence in refuse(write(tmp_path, f"case_id,patient_id,{columns}\n1,p,a.npy,1,0\n"))


def test_a_column_that_describes_the_series_is_kept_where_there_are_no_channels(
    tmp_path: Path,
) -> None:
    own = "series_description,Series_Number,Age"
    text = f"case_id,patient_id,path,label,{own}\n1,p,a.npy,x,thin,3,61\n"
    (record,) = read(write(tmp_path, text))
    assert record.extra == {"series_description": "thin", "Series_Number": "3", "Age": "61"}


TEXTS = "case_id,patient_id,path,label,report\n"


@pytest.mark.parametrize("rows", [2, 20_000])
@pytest.mark.parametrize("row", ['1,p,a.npy,"x,\n', '1,p,a.npy,x,"seen\n'])
def test_a_quote_that_is_not_closed_swallows_no_row(tmp_path: Path, row: str, rows: int) -> None:
    message = refuse(write(tmp_path, TEXTS + "0,p,a.npy,x,\n" + row + "2,p,b.npy,y,\n" * rows))
    assert "labels.csv, line 3: the row that begins here cannot be read" in message
    assert "opened and not closed" in message


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            TEXTS + '1,p,a.npy,"x,\n2,p,b.npy,y",\n',
            "line 2: a cell of the column `label` reaches over 2 lines",
        ),
        (
            TEXTS + '1,p,a.npy,x,"seen\n2,p,b.npy,y,"\n',
            "line 2: a cell of the column `report` reaches over 2 lines",
        ),
        (
            TEXTS + '1,p,a.npy,x,"seen\n2,p,b.npy,y,\n3,p,c.npy,y,too, and more"\n',
            "line 2: a cell of the column `report` reaches over 3 lines",
        ),
        (
            TEXTS.replace("report", '"report') + '1,p,a.npy,x,seen"\n2,p,b.npy,y,\n',
            "line 1: a cell of column 5 reaches over 2 lines",
        ),
        (TEXTS + '1,p,a.npy,x,"seen" twice\n', "line 2: the row that begins here"),
    ],
)
def test_a_cell_that_holds_rows_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    assert sentence in refuse(write(tmp_path, text))


def test_a_report_may_have_lines_and_quotes(tmp_path: Path) -> None:
    text = TEXTS + '1,p,a.npy,x,"Seen, twice.\nNo ""new"" one."\n2,p,b.npy,2" long,\n'
    first, second = read(write(tmp_path, text))
    assert first.extra["report"] == 'Seen, twice.\nNo "new" one.'
    assert second.label == '2" long'


@pytest.mark.parametrize(("mark", "value"), [(",", None), (";", 1.234), ("\t", 1.234)])
def test_a_comma_before_three_digits_is_decimal_where_it_parts_no_cells(
    tmp_path: Path, mark: str, value: float | None
) -> None:
    head = mark.join(["case_id", "patient_id", "path", "label", "slice_at"])
    cell = '"1,234"' if mark == "," else "1,234"
    path = write(tmp_path, f"{head}\n{mark.join(['1', 'p', 'a.npy', 'x', cell])}\n")
    if value is None:
        assert "write a point" in refuse(path)
    else:
        assert read(path)[0].placed_labels == {value: "x"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_a_text_that_is_cut_or_is_none_is_refused(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path, TEXTS + "1,p,a.npy,x,\n", encoding=encoding)
    path.write_bytes(path.read_bytes()[: -1 if encoding == "utf-16" else None])
    message = refuse(path)
    assert "labels.csv cannot be read as " in message
    assert "Save it as UTF-8" in message


def test_a_workbook_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "labels.xlsx"
    path.write_bytes(b"PK\x03\x04 and so on")
    assert "Save the sheet as `CSV UTF-8`" in refuse(path)


def test_an_absent_table_is_a_sentence(tmp_path: Path) -> None:
    assert "There is no file" in refuse(tmp_path / "none.csv")


@pytest.mark.parametrize("label", ["none", "normal", "#1", "grade 1!"])
def test_a_word_that_may_be_a_class_is_one(tmp_path: Path, label: str) -> None:
    (record,) = read(write(tmp_path, f"case_id,patient_id,path,label\n1,p,a.npy,{label}\n"))
    assert record.label == label


def test_the_real_nodule_table_is_read() -> None:
    path = DATA / "ct_lidc_nodule_vs_vessel/manifest.csv"
    if not path.exists():
        pytest.skip("ct_lidc_nodule_vs_vessel absent")
    records = read(path)
    assert len(records) == 574
    assert len({record.patient_id for record in records}) == 260
    assert table.classes(path) == ("nodule", "vessel")


def test_prose_with_as_many_commas_as_the_table_is_no_open_quote(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    (tmp_path / "a.npy").touch()
    told = "Nodule in the upper lobe.\nSize 4 mm, solid, smooth, no calcium, stable."
    path.write_text(f'{TEXTS}1,p,a.npy,x,"{told}"\n', encoding="utf-8")
    (record,) = table.records(path)
    assert record.extra["report"] == told
