"""Student and teacher: who learns, who does not, and what the teacher sees."""

import pytest
import torch

from medvid.contract import ConfigError
from medvid.models.slicewise import Slicewise
from medvid.models.t3d import T3D
from medvid.train.matching import Compare, PairMatcher, count_features, describe_frames


def make_student() -> T3D:
    return T3D(width=4, growth=4, bottleneck=2, blocks=(1, 1), stem="half")


def make_matcher(compare: Compare = "concatenate") -> PairMatcher:
    torch.manual_seed(0)
    teacher = Slicewise(width=4, depths=(1, 1))
    student = make_student()
    lengths = (count_features(student, (1, 4, 16, 16)), count_features(teacher, (1, 1, 16, 16)))
    return PairMatcher(student, teacher, lengths, (16, 8), compare)


both_ways = pytest.mark.parametrize("compare", ["concatenate", "difference"])


@both_ways
def test_only_the_student_and_the_comparing_layers_learn(compare: Compare) -> None:
    matcher = make_matcher(compare).train()
    before = {name: value.clone() for name, value in matcher.teacher.state_dict().items()}
    clips = torch.randn(4, 2, 1, 4, 16, 16)
    loss = torch.nn.functional.cross_entropy(matcher(clips), torch.tensor([0, 1, 0, 1]))
    torch.autograd.backward(loss)
    optimizer = torch.optim.SGD((p for p in matcher.parameters() if p.requires_grad), lr=0.1)
    optimizer.step()
    after = matcher.teacher.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)  # statistics too
    assert matcher.student.training
    assert not matcher.teacher.training
    learning = {name.split(".")[0] for name, p in matcher.named_parameters() if p.grad is not None}
    assert learning == {"student", "adapt", "compare"}


def test_the_teacher_sees_frames_one_by_one_and_no_padding() -> None:
    teacher = Slicewise(width=4, depths=(1, 1)).eval()
    clips = torch.randn(2, 1, 5, 16, 16)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    found = describe_frames(teacher, clips, mask)
    frames = [teacher.features(clips[1:, :, [frame]]) for frame in range(2)]
    torch.testing.assert_close(found[1:], torch.stack(frames).mean(dim=0))
    shuffled = describe_frames(teacher, clips[:, :, [4, 2, 0, 3, 1]])
    torch.testing.assert_close(shuffled[:1], found[:1])


@both_ways
def test_the_answer_depends_on_both_clips(compare: Compare) -> None:
    matcher = make_matcher(compare).eval()
    clips = torch.randn(1, 2, 1, 4, 16, 16)
    for view in range(2):
        moved = clips.clone()
        moved[:, view] = torch.randn(1, 1, 4, 16, 16)
        assert not torch.allclose(matcher(moved), matcher(clips))


def test_a_network_of_clips_cannot_teach() -> None:
    class Deep(Slicewise):
        exact_frames = 8

    with pytest.raises(ConfigError, match="does not take single frames"):
        PairMatcher(make_student(), Deep(width=4, depths=(1, 1)), (1, 1))


def test_a_batch_of_one_pair_is_measured_by_those_before_it() -> None:
    matcher = make_matcher("difference").train()
    matcher(torch.randn(8, 2, 1, 4, 16, 16))
    assert matcher(torch.randn(1, 2, 1, 4, 16, 16)).isfinite().all()
