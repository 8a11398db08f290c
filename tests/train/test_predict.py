"""The table of predictions: averaging, frames, findings."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medvid.contract import ConfigError, DataError
from medvid.train.predict import average_logits, predict_loader, to_probabilities
from tests.train.tiny import FrameNet, TinyNet, build_loader, build_net

SINGLE: dict[str, Any] = {"classes": ("a", "b"), "multilabel": False, "device": "cpu"}
SEVERAL: dict[str, Any] = {"classes": ("x", "y"), "multilabel": True, "device": "cpu"}

logit = st.floats(-30, 30)


class Echo(nn.Module):
    """Answers with the numbers that stand in the clip."""

    modalities = ("clip",)
    smallest = (1, 1, 1)

    def forward(self, clip: Tensor, mask: Tensor | None = None) -> Tensor:
        return clip[:, 0, 0, 0]

    def frame_logits(self, clip: Tensor, mask: Tensor | None = None) -> Tensor:
        return clip[:, 0, :, 0]


def _batch(logits: Any, case_ids: list[str], **more: Any) -> dict[str, Any]:
    """Makes a batch whose clips say their logits; logits are (B, [N,] T, classes)."""
    clip = torch.tensor(logits, dtype=torch.float32)
    clip = clip[:, None, :, None] if clip.ndim == 3 else clip[:, :, None, :, None]
    grid = (*clip.shape[:-4], clip.shape[-3])
    return {
        "clip": clip,
        "mask": torch.ones(grid, dtype=torch.bool),
        "window": torch.arange(grid[-1]).expand(grid),
        "case_id": case_ids,
        "patient_id": [f"p-{case}" for case in case_ids],
        **more,
    }


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(logit, logit, logit), min_size=1, max_size=5),
    st.booleans(),
    st.sampled_from(["probability", "logit"]),
)
def test_logits_always_give_the_probabilities(
    rows: list[tuple[float, ...]], multilabel: bool, average: Any
) -> None:
    logits = np.array(rows)
    averaged = to_probabilities(average_logits(logits, multilabel, average)[None], multilabel)[0]
    if average == "probability":
        expected = to_probabilities(logits, multilabel).mean(axis=0)
        np.testing.assert_allclose(averaged, expected, atol=1e-12)
    if not multilabel:
        assert averaged.sum() == pytest.approx(1)


def test_a_certain_answer_keeps_a_finite_logit() -> None:
    logits = np.array([[900.0, -900.0], [800.0, -800.0]])
    for multilabel in (True, False):
        assert np.isfinite(average_logits(logits, multilabel, "probability")).all()


def test_clips_of_an_item_are_averaged_as_probabilities() -> None:
    odds = math.log(3)  # 1/4 and 3/4
    table = predict_loader(Echo(), [_batch([[[[0, odds]], [[0, 0]]]], ["c"])], **SINGLE)
    assert table["prob_b"].tolist() == pytest.approx([(0.75 + 0.5) / 2])
    assert table["logit_b"].tolist() == pytest.approx([math.log(0.625)])
    table = predict_loader(
        Echo(), [_batch([[[[0, odds]], [[0, 0]]]], ["c"])], average="logit", **SINGLE
    )
    assert table["logit_b"].tolist() == pytest.approx([odds / 2])


def test_crops_are_weighted_within_their_clip_and_clips_give_their_highest() -> None:
    """FSTCN's test, against its formula: two clips of two crops; windows tell which is whose."""
    chances = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.5, 0.5]])
    batch = _batch(np.log(chances)[None, :, None], ["c"])
    batch["window"] = torch.tensor([[[0], [0], [5], [5]]])
    table = predict_loader(Echo(), [batch], average="sci_max", **SINGLE)
    first = (0.8 * chances[0] + 0.2 * chances[1]) / (0.8 + 0.2)  # for two classes SCI = |2p - 1|
    second = chances[2]  # the crop beside it leans to neither
    highest = np.maximum(first, second)
    assert table[["prob_a", "prob_b"]].to_numpy()[0] == pytest.approx(highest / highest.sum())
    alike = predict_loader(Echo(), [batch], average="sci", **SINGLE)
    weights = np.abs(2 * chances[:, 0] - 1)
    wanted = weights @ chances / weights.sum()
    assert alike[["prob_a", "prob_b"]].to_numpy()[0] == pytest.approx(wanted)


def test_a_clip_that_shows_a_finding_is_not_outvoted_whatever_the_others_show() -> None:
    odds = [[3.0, -3.0], [-3.0, -3.0], [-3.0, -3.0]]
    batch = _batch([[[row] for row in odds]], ["c"])
    batch["window"] = torch.tensor([[[0], [1], [2]]])
    table = predict_loader(Echo(), [batch], average="sci_max", **SEVERAL)
    present, absent = 1 / (1 + math.exp(-3)), 1 / (1 + math.exp(3))
    assert table["prob_x"].tolist() == pytest.approx([0.5])  # as sure in one as not in two
    assert table["prob_y"].tolist() == pytest.approx([absent / (absent + present)])


def test_one_clip_keeps_its_logits() -> None:
    table = predict_loader(Echo(), [_batch([[[1.5, -2.0]]], ["c"])], **SINGLE)
    assert table[["logit_a", "logit_b"]].to_numpy().tolist() == [[1.5, -2.0]]
    assert list(table.columns[:3]) == ["case_id", "patient_id", "prob_a"]


def test_a_case_that_comes_twice_is_one_row() -> None:
    batches = [_batch([[[0, 0]], [[0, 9]]], ["c", "d"]), _batch([[[0, math.log(3)]]], ["c"])]
    table = predict_loader(Echo(), batches, **SINGLE)
    assert table["case_id"].tolist() == ["c", "d"]
    assert table["patient_id"].tolist() == ["p-c", "p-d"]
    assert table["prob_b"][0] == pytest.approx(0.625)


def test_frames_of_a_case_are_rows_of_their_own() -> None:
    batch = _batch([[[0, 1]], [[0, 2]]], ["c", "c"], frame=torch.tensor([4, 7]))
    table = predict_loader(Echo(), [batch], **SINGLE)
    assert table["frame"].tolist() == [4, 7]
    assert table["logit_b"].tolist() == [1, 2]


def test_labels_are_names_and_unknown_ones_are_empty() -> None:
    batch = _batch([[[0, 1]], [[0, 2]]], ["c", "d"], label=torch.tensor([1, -1]))
    table = predict_loader(Echo(), [batch], **SINGLE)
    assert table.to_csv(columns=["case_id", "label"], index=False) == "case_id,label\nc,b\nd,\n"


def test_findings_are_zero_one_or_empty() -> None:
    label = torch.tensor([[1.0, math.nan]])
    table = predict_loader(Echo(), [_batch([[[0, math.log(3)]]], ["c"], label=label)], **SEVERAL)
    csv = table.to_csv(columns=["label_x", "label_y"], index=False)
    assert csv == "label_x,label_y\n1,\n"
    assert table["prob_x"].tolist() == pytest.approx([0.5])
    assert table["prob_y"].tolist() == pytest.approx([0.75])


def test_labels_per_frame_give_a_row_per_frame_without_padding() -> None:
    batch = _batch([[[0, 1], [0, 2], [0, 3]]], ["c"], label=torch.tensor([[0, 1, -1]]))
    batch["mask"][0, 2] = False
    batch["window"] = torch.tensor([[10, 12, 12]])
    table = predict_loader(Echo(), [batch], **SINGLE)
    assert table["frame"].tolist() == [10, 12]
    assert table["label"].tolist() == ["a", "b"]
    assert table["logit_b"].tolist() == [1, 2]


def test_overlapping_windows_average_a_frame() -> None:
    logits = [[[[0, 0], [0, 0]], [[0, math.log(3)], [0, 9]]]]
    batch = _batch(logits, ["c"], label=torch.tensor([[[0, 1], [1, 1]]]))
    batch["window"] = torch.tensor([[[5, 6], [6, 7]]])
    table = predict_loader(Echo(), [batch], **SINGLE)
    assert table["frame"].tolist() == [5, 6, 7]
    assert table["prob_b"][1] == pytest.approx(0.625)
    assert table["label"].tolist() == ["a", "b", "b"]


def test_frames_can_be_scored_without_labels() -> None:
    table = predict_loader(Echo(), [_batch([[[0, 1], [0, 2]]], ["c"])], dense=True, **SINGLE)
    assert table["logit_b"].tolist() == [1, 2]
    assert "label" not in table


def test_a_model_without_frame_scores_says_so(net: TinyNet) -> None:
    with pytest.raises(ConfigError, match=r"TinyNet scores whole clips.*`centered`"):
        predict_loader(net, build_loader(4, shuffle=False), dense=True, **SINGLE)
    predict_loader(FrameNet(), build_loader(4, shuffle=False), dense=True, **SINGLE)


def test_a_missing_modality_is_named(net: TinyNet) -> None:
    net.modalities = ("clip", "flow")  # type: ignore[assignment]
    with pytest.raises(DataError, match="looks at `flow`"):
        predict_loader(net, build_loader(4, shuffle=False), **SINGLE)


def test_items_of_a_batch_do_not_mix(net: TinyNet) -> None:
    together = predict_loader(net, build_loader(8, shuffle=False, clips=2), **SINGLE)
    alone = predict_loader(net, build_loader(3, shuffle=False, clips=2), **SINGLE)
    np.testing.assert_allclose(together["prob_b"][:3], alone["prob_b"], rtol=1e-6)


def test_the_models_modes_stay_as_they_were(net: TinyNet) -> None:
    net.train()
    net.norm.eval()
    predict_loader(net, build_loader(4, shuffle=False), **SINGLE)
    assert net.training
    assert not net.norm.training


def test_a_model_that_takes_segments_sees_the_clips_axis() -> None:
    class Segments(nn.Module):
        modalities = ("clip", "spacing")
        smallest = (1, 1, 1)
        takes_segments = True

        def forward(self, clip: Tensor, spacing: Tensor, mask: Tensor | None = None) -> Tensor:
            assert spacing.shape == (len(clip), 3)
            assert mask is not None
            assert mask.shape == clip.shape[:2] + clip.shape[3:4]
            return clip.mean(dim=(2, 3, 4, 5)).sum(dim=1, keepdim=True).repeat(1, 2)

    for clips in (None, 3):
        loader = build_loader(4, shuffle=False, clips=clips)
        assert len(predict_loader(Segments(), loader, **SINGLE)) == 4


def test_bfloat16_is_close_to_full_precision() -> None:
    tables = [
        predict_loader(build_net(), build_loader(4, shuffle=False), precision=p, **SINGLE)
        for p in ("32", "bf16-mixed")
    ]
    # bfloat16 has 8 bits of mantissa: 2^-8 of numbers about 1.
    np.testing.assert_allclose(tables[0]["prob_b"], tables[1]["prob_b"], atol=0.02)
    assert (tables[0]["prob_b"] != tables[1]["prob_b"]).any()
