import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medvid.contract import DataError
from medvid.report.characteristics import describe_patients
from medvid.report.counts import Counts
from medvid.report.figures_study import plot_context
from medvid.report.flow import read_flow
from medvid.report.html import write_report

Check = Callable[[str], Any]  # of conftest.py


@pytest.fixture(scope="module")
def reported(made_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with its page; shared, so read only."""
    folder = tmp_path_factory.mktemp("reported") / "study ü"
    shutil.copytree(made_study, folder)
    write_report(folder)
    return folder


@pytest.fixture
def study(made_study: Path, tmp_path: Path) -> Path:
    """A study of one's own, without predictions, which take time to draw."""
    folder = tmp_path / "study"
    shutil.copytree(made_study, folder, ignore=shutil.ignore_patterns("predictions"))
    return folder


def read_page(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def change(folder: Path, **values: Any) -> dict[str, Any]:
    path = folder / "result.json"
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(json.dumps(result), encoding="utf-8")
    return result


def test_a_study_is_answered_in_one_sentence_first(reported: Path, check: Check) -> None:
    page = read_page(reported)
    assert len(check(page).pictures) == 9
    result = json.loads((reported / "result.json").read_text(encoding="utf-8"))
    body = page[page.index("<body>") :]
    assert body.index(result["answer"]["sentence"]) < body.index("<nav")
    assert "Not a medical device" in page
    assert not list(reported.rglob("*.part"))


def test_a_study_names_no_patient(reported: Path) -> None:
    for path in (reported / "report.html", *(reported / "tables").iterdir()):
        assert "SECRET" not in path.read_text(encoding="utf-8"), path.name


def test_every_arm_difference_and_control_is_on_the_page(reported: Path) -> None:
    page = read_page(reported)
    result = json.loads((reported / "result.json").read_text(encoding="utf-8"))
    for name, arm in result["arms"].items():
        assert f"<th>{name}</th><td>{arm['says']}</td>" in page
    for one in result["comparisons"]:
        assert f"{one['difference']:+.3f}</td>" in page
        assert f"<td>{one['verdict']}</td>" in page
    for verdict in result["control_verdicts"]:
        assert verdict["expected"] in page
    assert page.count("as expected") == 5
    assert result["hash"] in page
    assert result["deviations"][0] in page
    assert result["learning_note"] in page
    assert result["planned"]["sentence"] in page


def test_the_window_that_is_the_answer_is_marked(reported: Path) -> None:
    (row,) = re.findall(r'<tr class="chosen">(.*?)</tr>', read_page(reported), re.DOTALL)
    assert "5 slices" in row
    assert "W*" in row


def test_figures_are_svg_and_png_of_300_dpi_and_tables_are_csv(reported: Path) -> None:
    names = {path.stem for path in (reported / "figures").iterdir()}
    assert names == {
        *("context", "differences", "distribution", "learning", "flow"),
        *("roc", "precision", "reliability", "decision"),
    }
    for name in names:
        assert (reported / "figures" / f"{name}.svg").read_bytes().startswith(b"<?xml")
    png = (reported / "figures" / "context.png").read_bytes()
    assert int.from_bytes(png[16:20]) == 2160  # 7.2 inches
    arms = read_table(reported / "tables" / "arms.csv")
    result = json.loads((reported / "result.json").read_text(encoding="utf-8"))
    assert {row["arm"] for row in arms} == set(result["arms"])
    first = next(row for row in arms if row["arm"] == "w5")
    assert float(first["auc_value"]) == result["arms"]["w5"]["metrics"]["auc"]["value"]
    assert len(read_table(reported / "tables" / "comparisons.csv")) == len(result["comparisons"])
    assert len(read_table(reported / "tables" / "flipped.csv")) == len(result["flipped"])


def test_flow_counts_add_up(made_study: Path) -> None:
    flow = read_flow(made_study, Counts(240, 120, {"vessel": 160, "nodule": 80}))
    assert flow is not None
    assert flow.found == flow.used + sum(number for _, number in flow.refused) == 248
    assert flow.refused == (("missing_slices", 7), ("no_label", 1))
    assert len(flow.parts) == 5
    assert sum(int(lines[-1].split()[-1]) for _, lines in flow.parts) == flow.used


def test_classes_of_slices_are_counted_in_slices(study: Path) -> None:
    change(study, task="slice", n_predictions=720, n_per_class={"vessel": 480, "nodule": 240})
    page = write_report(study).read_text(encoding="utf-8")
    assert "<p>240 cases of 120 patients; 720 slices: vessel 480, nodule 240.</p>" in page
    assert "<p>240 cases of 120 patients, 720 labelled slices, positive: " in page
    flow = read_flow(study, Counts(240, 120, {"vessel": 480, "nodule": 240}, slices=720))
    assert flow is not None
    assert flow.detail == ("120 patients", "720 slices: vessel 480, nodule 240")


def test_a_study_needs_only_its_result(study: Path, check: Check) -> None:
    for name in ("manifest.csv", "splits.json", "refused.csv", "study.yaml", "environment.json"):
        (study / name).unlink()
    shutil.rmtree(study / "cases")
    change(
        study, controls=[], networks=[], learning=[], comparisons=[], subgroups=[], flipped=[],
        control_verdicts=[], planned=None, learning_note=None, deviations=[],
    )  # fmt: skip
    write_report(study)
    page = read_page(study)
    check(page)
    assert "No deviation" in page
    assert "--gallery" in page
    assert "<script" not in page


def test_hostile_names_are_shown_and_not_run(study: Path, check: Check) -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    index = study / "cases" / "index.json"
    cases = json.loads(index.read_text(encoding="utf-8"))
    for case in cases:
        case["case_id"] = case["scores"]["title"] = evil
    index.write_text(json.dumps(cases), encoding="utf-8")
    result = change(study, name=evil, deviations=[evil])
    result["arms"]["w5"]["title"] = evil
    change(study, arms=result["arms"])
    write_report(study)
    page = read_page(study)
    check(page)
    assert "<img src=x" not in page
    assert page.count("</script>") == 2


def test_a_study_whose_question_was_changed_is_not_reported(study: Path) -> None:
    path = study / "study.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "seed: 5\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"study.yaml was changed since the study was") as refused:
        write_report(study)
    assert refused.value.code == "changed_study"


def test_a_cross_check_names_both_arms(study: Path) -> None:
    page = write_report(study).read_text(encoding="utf-8")
    assert "Cross-check, DeLong: 5 slices against 1 slice +0." in page


def test_natural_networks_stand_beside_the_matched_one_on_the_window_that_they_saw(
    study: Path,
) -> None:
    page = write_report(study).read_text(encoding="utf-8")
    assert "<th>matched, 17 slices</th>" in page
    assert "<th>matched, 5 slices</th>" not in page


def test_decisions_at_the_operating_point_are_on_the_page(reported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(reported, folder)
    assert ">Decisions" not in read_page(folder)  # the result of an earlier version has none
    counts = [[150, 10], [3, 77]]
    point = {"threshold": {str(fold): 0.2 + fold / 10 for fold in range(5)}, "method": "youden"}
    change(
        folder,
        decisions={
            "arm": "w9", "operating_point": point, "notes": ["Fold 0 had no choice."],
            "confusion": {"rows": "true class", "columns": "called class", "counts": counts},
        },
    )  # fmt: skip
    write_report(folder)
    page = read_page(folder)
    assert "Decisions of 9 slices" in page
    assert "Positive from a probability of 0.200 to 0.600, by fold; youden. Probabilities" in page
    assert "Fold 0 had no choice." in page
    assert '<th>vessel</th>\n<td class="number">150</td><td class="number">10</td>' in page
    assert "Errors of 9 slices" in page
    (first, second) = read_table(folder / "tables" / "confusion.csv")
    assert (first["called nodule"], second["called vessel"]) == ("10", "3")
    table = pd.read_csv(folder / "predictions" / "w9.csv")
    mean = table.groupby("case_id").agg({"prob_nodule": "mean", "label": "first", "fold": "first"})
    called = mean["prob_nodule"] >= 0.2 + mean["fold"] / 10
    wrong = mean.index[called != (mean["label"] == "nodule")]
    assert {row["case"] for row in read_table(folder / "tables" / "errors.csv")} == set(wrong)


def test_seeds_stand_beside_their_mean(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Any] = []

    def keep(figure: Any, stem: Path) -> Path:
        figures.append(figure)
        return stem

    monkeypatch.setattr("medvid.report.figures_study.save_figure", keep)
    result = json.loads((study / "result.json").read_text(encoding="utf-8"))
    plot_context(study / "x", result)
    axes = figures[0].axes[0]
    figures[0].draw_without_rendering()
    (mean,) = [
        line for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata()) == 5
    ]
    seeds = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    seeds = [line for line in seeds if len(line.get_xdata()) == 3]
    assert len(seeds) == 5
    points = 72 / figures[0].dpi
    for place, value, own in zip(*mean.get_data(), seeds, strict=True):
        shown = axes.transData.transform((place, value))[0]
        beside = own.get_transform().transform(own.get_xydata())[0][0]
        apart = (beside - shown) * points
        assert apart > (mean.get_markersize() + own.get_markersize()) / 2
        assert own.get_zorder() > mean.get_zorder()


def test_windows_in_mm_have_an_axis_in_mm(study: Path) -> None:
    result = json.loads((study / "result.json").read_text(encoding="utf-8"))
    for name, arm in result["arms"].items():
        if name in result["curve"]:
            arm |= {"window": None, "window_mm": 2.5 * int(name[1:]), "title": f"{name} mm"}
    change(study, arms=result["arms"], step_mm=None)
    page = write_report(study).read_text(encoding="utf-8")
    assert "W* = " in page or "12.5" in page


def test_the_page_says_which_class_is_positive(study: Path) -> None:
    page = write_report(study).read_text(encoding="utf-8")
    assert "240 cases of 120 patients, positive: nodule (evaluate.positive);" in page
    change(study, positive=None, classes=["a", "b", "c"])
    page = write_report(study).read_text(encoding="utf-8")
    assert "evaluate.positive" not in page


@pytest.mark.parametrize(
    ("task", "positions", "same"),
    [("scan", "every", True), ("scan", "centre", False), ("slice", "every", False)],
)
def test_the_evidence_is_called_the_same_only_where_every_window_sees_every_slice(
    study: Path, task: str, positions: str, same: bool
) -> None:
    change(study, task=task, positions=positions)
    page = write_report(study).read_text(encoding="utf-8")
    assert ("the same evidence" in page) is same
    assert ("every arm sees every slice" in page) is same
    assert "<caption>The same network, " in page


def test_steps_that_differ_along_the_learning_curve_are_told(study: Path) -> None:
    page = write_report(study).read_text(encoding="utf-8")
    assert "All were trained for the same 640 steps." in page
    result = json.loads((study / "result.json").read_text(encoding="utf-8"))
    arms = result["arms"]
    for name in result["learning"]:
        arms[name]["steps"] = 320
    change(study, arms=arms)
    page = write_report(study).read_text(encoding="utf-8")
    assert "trained for different numbers of steps (640 of 17 slices, 320 of " in page


def test_scans_of_unlike_steps_have_a_range_of_lengths(study: Path) -> None:
    change(study, step_mm=5.0, steps_mm=[1.0, 5.0])
    page = write_report(study).read_text(encoding="utf-8")
    assert "with 17 slices (16 to 80 mm) at its input" in page
    assert '<td class="number">4 to 20</td>' in page
    figure = (study / "figures" / "context.svg").read_text(encoding="utf-8")
    assert "5 slices (4 to 20 mm)" in figure
    assert "in the median scan" in figure
    change(study, step_mm=5.0, steps_mm=[4.9, 5.1])  # one protocol
    page = write_report(study).read_text(encoding="utf-8")
    assert "with 17 slices (80 mm) at its input" in page


def test_without_an_answer_the_page_marks_no_window(study: Path) -> None:
    result = json.loads((study / "result.json").read_text(encoding="utf-8"))
    nothing = {"arm": None, "window": None, "sentence": "Inconclusive at n = 240."}
    change(study, answer=result["answer"] | nothing)
    page = write_report(study).read_text(encoding="utf-8")
    assert 'class="chosen"' not in page
    assert "Inconclusive at n = 240." in page


def test_a_study_without_result_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("name: x\n", encoding="utf-8")
    with pytest.raises(DataError, match="medvid context --resume"):
        write_report(tmp_path)


def test_characteristics_count_patients_once_and_hide_what_identifies() -> None:
    rows = [
        {
            "case_id": f"c{k}", "patient_id": f"p{k // 2}", "path": "x", "label": "a",
            "age": str(40 + k // 2), "sex": "f" if k < 22 else "m", "referrer": f"Dr. {k}",
            "birth_date": "1.1.1950", "accession": str(1000 + k),
        }
        for k in range(44)
    ]  # fmt: skip
    table = describe_patients(rows, {"Test": [f"c{k}" for k in range(6)]})
    assert table.columns == ("All (n = 44)", "Test (n = 6)")  # accession differs within patients
    slim = [{k: v for k, v in row.items() if k not in ("accession", "referrer")} for row in rows]
    table = describe_patients(slim, {"Test": [f"c{k}" for k in range(6)]})
    assert table.columns == ("All (n = 22)", "Test (n = 3)")
    lines = {row["name"]: row["cells"] for row in table.rows}
    ages = np.arange(40, 62)
    assert lines["age"][0] == f"{np.median(ages):g} [{np.quantile(ages, 0.25):.1f}, 55.8]"
    assert lines["age"][1] == "41"
    assert lines["f"] == ["11 (50%)", "3"]
    assert "birth_date" not in lines
    assert any("birth_date" in note for note in table.notes)
    assert any("Below 10" in note for note in table.notes)


def test_what_medvid_itself_reads_describes_no_patient() -> None:
    own = {
        "case_id": "c", "patient_id": "p", "path_t1": "a.nii", "path_flair": "b.nii",
        "series_t1": "s", "series_flair": "s", "label": "x", "label_edema": "1", "slice": "3",
        "slice_at": "12.5", "slice_file": "3", "sop_uid": "token", "x_mm": "1", "split": "train",
    }  # fmt: skip
    rows = [own | {"case_id": f"c{k}", "patient_id": f"p{k}"} for k in range(12)]
    table = describe_patients(rows, {})
    assert table.rows == ()
    assert "no further columns" in table.notes[0]
    sexed = [row | {"sex": "f", "series_note": "ab"} for row in rows]
    table = describe_patients(sexed, {})
    assert [row["name"] for row in table.rows] == ["sex", "f"]
    (note,) = [note for note in table.notes if note.startswith("Not shown")]
    assert note.endswith(": series_note.")


def describe_ages(ages: list[str]) -> list[tuple[str, list[str]]]:
    """Returns name and cells of the lines that a column of ages takes."""
    rows = [{"case_id": f"c{k}", "patient_id": f"p{k}", "age": age} for k, age in enumerate(ages)]
    return [(row["name"], row["cells"]) for row in describe_patients(rows, {}).rows]


def test_ages_with_decimal_commas_are_numbers() -> None:
    ages = [f"{age},5" for age in range(40, 51)]
    assert describe_ages(ages) == [("age", ["45.5 [43, 48]"])]
    # 42,125 alone may be forty thousand; beside 40,5 it cannot be.
    assert describe_ages(["40,5", "41", "42,125"]) == [("age", ["41"])]
    names = [name for name, _ in describe_ages(["1,000", "2,000", "3,000"])]
    assert names == ["age", "1,000", "2,000", "3,000"]


@pytest.mark.parametrize("word", ["n/a", "NA", "nan", "Unknown", "-", "."])
def test_words_for_what_nobody_knows_are_missing_among_numbers(word: str) -> None:
    ages = [str(age) for age in range(40, 51)]
    assert describe_ages([*ages, word, ""]) == [("age", ["45 [42.5, 47.5]; 2 missing"])]
    assert (word, ["1"]) in describe_ages(["f", "m", "m", word])  # a group of its own among texts


def test_a_text_among_ages_is_no_number() -> None:
    names = [name for name, _ in describe_ages(["40", "41", "42", "over 90", "1_0", "inf"])]
    assert names == ["age", "40", "41", "42", "1_0", "inf", "over 90"]


def test_a_study_of_several_findings_offers_no_pictures(study: Path, check: Check) -> None:
    shutil.rmtree(study / "cases")
    (study / "predictions").mkdir()
    text = "case_id,patient_id,fold,seed,label_a,label_b,prob_a,prob_b\nc,p,0,0,1,0,0.5,0.5\n"
    for name in ("w1", "w5", "w17"):
        (study / "predictions" / f"{name}.csv").write_text(text, encoding="utf-8")
    change(study, positive=None, classes=["a", "b"], flipped=[])
    page = write_report(study).read_text(encoding="utf-8")
    check(page)
    assert "a case has several findings here" in page
    assert "--gallery" not in page
