"""The paper's transfer of T3D: a network of clips learns from a network of slices, without labels.

A frozen 2D network, the teacher, looks at frames one by one. A 3D network, the student, looks at a
clip. From both their features a few layers tell whether the frames are those of the clip. To do so
the student must describe what the teacher already sees, and that is what it keeps.
"""

from itertools import pairwise
from typing import Literal, cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from medvid.contract import ConfigError, VideoModel

HIDDEN = (512, 128)
"""Units of the fully connected layers between features and answer, in the paper."""

Compare = Literal["concatenate", "difference"]


class PairMatcher(nn.Module):
    """Student and teacher side by side, and the layers that compare them.

    Only the student and these layers learn. The teacher stays in evaluation mode, whatever mode
    the rest is in, so that its batch statistics stay as they were.

    Differs from the paper: the student's features are brought to the teacher's length by one more
    linear layer wherever they differ, as the paper does for its own 1,024.

    Args:
        student: a `VideoModel` that looks at clips alone.
        teacher: a `VideoModel` that takes clips of a single frame.
        lengths: features of student and teacher.
        hidden: units of the layers between.
        compare: `concatenate` both features, as the paper does; or `difference`: both brought to
            one scale, and their absolute difference beside them. Layers must first learn to
            subtract what they are only shown side by side, for which half a million clips
            suffice and a few hundred scans do not.

    Shape:
        - clips: (B, 2, C, T, H, W), the student's and the teacher's; mask: (B, 2, T).
        - logits: (B, 2), another patient's or the same clip.

    Raises:
        ConfigError: when the teacher needs more than one frame, or one of both more than the clip.

    References:
        Diba, Fayyaz et al., arXiv 1711.08200, section 3.3, figure 3.
    """

    modalities = ("clip",)
    takes_segments = True

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        lengths: tuple[int, int],
        hidden: tuple[int, ...] = HIDDEN,
        compare: Compare = "concatenate",
    ) -> None:
        super().__init__()
        refuse_teacher(teacher)
        if cast("VideoModel", student).modalities != ("clip",):
            raise ConfigError(
                f"{type(student).__name__} looks at more than the clip, and pairs are made of "
                "clips alone. Choose another model.",
                code="missing_modality",
            )
        self.student = student
        self.teacher = teacher.requires_grad_(False).eval()
        self.smallest = cast("VideoModel", student).smallest
        length = lengths[1]
        self.adapt: nn.Module = nn.Identity()
        if lengths[0] != length:
            self.adapt = nn.Linear(lengths[0], length)
        self.with_difference = compare == "difference"
        if self.with_difference:
            self.scale_student, self.scale_teacher = Standardize(length), Standardize(length)
        sizes = [(3 if self.with_difference else 2) * length, *hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU(inplace=True)]
        self.compare = nn.Sequential(*layers, nn.Linear(sizes[-1], 2))

    def train(self, mode: bool = True) -> "PairMatcher":
        """Sets the mode of all but the teacher."""
        super().train(mode)
        self.teacher.eval()
        return self

    def features(
        self,
        clips: Float[Tensor, "batch 2 channels t h w"],
        mask: Bool[Tensor, "batch 2 t"] | None = None,
    ) -> Float[Tensor, "batch features"]:
        """Returns the student's and the teacher's features, and their difference if asked for."""
        masks = (None, None) if mask is None else (mask[:, 0], mask[:, 1])
        seen = cast("VideoModel", self.student).features(clips[:, 0], mask=masks[0])
        known = describe_frames(self.teacher, clips[:, 1], masks[1])
        told = self.adapt(seen)
        if not self.with_difference:
            return torch.cat([told, known], dim=1)
        told, known = self.scale_student(told), self.scale_teacher(known)
        return torch.cat([told, known, (told - known).abs()], dim=1)

    def forward(
        self,
        clips: Float[Tensor, "batch 2 channels t h w"],
        mask: Bool[Tensor, "batch 2 t"] | None = None,
    ) -> Float[Tensor, "batch 2"]:
        """Returns the logits of every pair."""
        return self.compare(self.features(clips, mask))


class Standardize(nn.BatchNorm1d):
    """Every feature with mean 0 and deviation 1 over the pairs, and no parameters.

    A teacher after ReLU and a mean over a slice may differ between scans by thousandths.

    Args:
        features: how many.
    """

    def __init__(self, features: int) -> None:
        super().__init__(features, affine=False)

    def forward(self, given: Float[Tensor, "batch features"]) -> Float[Tensor, "batch features"]:
        """Returns the features on one scale; one pair alone is measured by those before it."""
        if self.training and len(given) == 1:
            return functional.batch_norm(given, self.running_mean, self.running_var, eps=self.eps)
        return super().forward(given)


@torch.no_grad()
def describe_frames(
    teacher: nn.Module,
    clips: Float[Tensor, "batch channels t h w"],
    mask: Bool[Tensor, "batch t"] | None = None,
) -> Float[Tensor, "batch features"]:
    """Returns the mean of the teacher's features of every frame alone; padding does not count."""
    batch, t = clips.shape[0], clips.shape[2]
    shown = mask if mask is not None else clips.new_ones(batch, t, dtype=torch.bool)
    frames = rearrange(clips, "b c t h w -> b t c 1 h w")[shown]
    described = cast("VideoModel", teacher).features(frames)
    sums = described.new_zeros(batch, described.shape[1])
    sums.index_add_(0, shown.nonzero()[:, 0], described)
    return sums / shown.sum(dim=1, keepdim=True)


def refuse_teacher(teacher: nn.Module) -> None:
    """Stops when a network cannot look at a single frame.

    Raises:
        ConfigError: when it cannot.
    """
    least = cast("VideoModel", teacher).smallest[0]
    exact = getattr(teacher, "exact_frames", None)
    if least > 1 or exact not in (None, 1) or cast("VideoModel", teacher).modalities != ("clip",):
        raise ConfigError(
            f"{type(teacher).__name__} cannot teach: it does not take single frames. Take a run of "
            "a network that looks at slices alone, such as `slicewise`, or one with "
            "`model.planar=true`.",
            code="no_teacher",
        )


@torch.inference_mode()
def count_features(model: nn.Module, clip: tuple[int, int, int, int]) -> int:
    """Returns how many features a model describes a clip (C, T, H, W) with."""
    training = model.training
    described = cast("VideoModel", model.eval()).features(torch.zeros(1, *clip))
    model.train(training)
    return int(described.shape[1])
