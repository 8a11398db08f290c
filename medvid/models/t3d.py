"""T3D: Diba, Fayyaz et al., Temporal 3D ConvNets, 2017: DenseNet3D with temporal transitions.

The trunk is that of `medvid.models.densenet3d`, of the same paper; the transition is
`medvid.layers.ttl`. The paper's transfer from a 2D network is the pre-training of
`medvid train run/t3d_transfer`.
"""

from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor, nn

from medvid.layers.anisotropy import ALONE, Stage, name_waiting
from medvid.layers.clips import (
    AtLeastOne,
    Size,
    Steps,
    bring_forward,
    check_clips,
    refuse_small_size,
)
from medvid.layers.ttl import Depths, Reading, TemporalTransition
from medvid.models.densenet3d import (
    PAPER_CLIP,
    Blocks,
    DenseTrunk,
    Norm,
    Stem,
    Strides,
    find_smallest,
    initialize_dense,
    plan_dense,
)

BRANCH = 2
"""Channels of a branch of a transition, in multiples of the stem's: 128 for 64."""

Clips = Float[Tensor, "batch channels t h w"]
Mask = Bool[Tensor, "batch t"]


class T3D(nn.Module):
    """DenseNet3D whose transitions look over one, three and four or six slices side by side.

    For a scan that is a layer of several scales through-plane: over slices of 5 mm the first
    transition sees 5, 15 and 30 mm, a vessel's bend and a lesion's whole extent. Its depths are
    counted in slices and stay as they are with `strides: spacing`, where the other kernels wait.

    The defaults are T3D-121 for 32 x 224 x 224: 29,608,677 parameters with 3 channels and 101
    classes. `blocks: (6, 12, 32, 32)` is T3D-169. The mask is honoured as in DenseNet3D.

    Differs from the paper: nothing where it can be told. It gives no channels for the transition,
    and its code was withdrawn and does not run, so `reading` chooses. `A`, the default, is its
    figure with the code's 128 channels a branch; `B` has the code's further convolution, `C` one
    that halves, and with `D` the network is as wide as DenseNet3D (1,022 features, near the 1,024
    that the paper draws). The code has depths 1, 3, 4 everywhere, the paper's table 1, 3, 6 in the
    first transition; here the table counts. For the rest see DenseNet3D.

    Args:
        in_channels: channels of a clip.
        num_classes: logits.
        width: channels of the stem; a transition's branch has twice as many.
        dropout: on the pooled features; the paper has none.
        clip_size: (T, H, W) that `strides: spacing` plans for; None does not limit it.
        blocks: layers of every dense block.
        growth: channels that a layer adds.
        bottleneck: a layer's first convolution has so many times `growth` channels.
        reading: of the transition: `A`, `B`, `C` or `D`.
        first_depths: slices that the three branches of the first transition span.
        depths: the same for all other transitions.
        norm: before every convolution: `batch` (the paper), `group` or `instance`.
        stem: `paper` (3 x 7 x 7 with stride 2, maximum of 3 with stride 1 x 2 x 2), `half` (3 x 3
            x 3, rows and columns halved) or `full` (3 x 3 x 3, nothing halved).
        strides: `paper`, or `spacing`: strides along T and the dense layers' kernels wait while
            slices lie more than twice as far apart as pixels, and no axis is halved below two.
        spacing: of (T, H, W) in mm, for `strides: spacing`; None, as for videos, is isotropic.
        planar: the 2D twin with the same names: no kernel and no stride spans slices, and T is
            only averaged at the end.

    Shape:
        - clips: (B, C, T, H, W), mask: (B, T); False marks padding.
        - features: (B, F), the mean of the last maps; F is 896 for the defaults.
        - logits: (B, num_classes).

    Raises:
        ConfigError: when `clip_size` is smaller than the strides of the stem allow.
        DataError: when a clip in a batch is, or has other channels.

    References:
        Diba, Fayyaz et al., arXiv 1711.08200, section 3.1, figure 2, table 1.
    """

    modalities = ("clip",)
    honours_mask = True
    paper = "Diba, Fayyaz et al., 2017, arXiv 1711.08200"
    through_plane = (
        "Mixes three slices in every dense layer, and 1 to 6 side by side in its transitions."
    )
    paper_clip: Size = PAPER_CLIP

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 64,
        dropout: float = 0.0,
        clip_size: Size | None = None,
        blocks: Blocks = (6, 12, 24, 16),
        growth: AtLeastOne = 32,
        bottleneck: AtLeastOne = 4,
        reading: Reading = "A",
        first_depths: Steps = (1, 3, 6),
        depths: Steps = (1, 3, 4),
        norm: Norm = "batch",
        stem: Stem = "paper",
        strides: Strides = "paper",
        spacing: tuple[float, float, float] | None = None,
        planar: bool = False,
    ) -> None:
        super().__init__()
        self.smallest: Size = find_smallest(stem, len(blocks))
        refuse_small_size(clip_size, self.smallest, "t3d")
        self.in_channels = in_channels
        plan = plan_dense(stem, len(blocks), strides, spacing, clip_size, planar)
        self.through_plane = (
            ALONE if planar else _describe_depths(plan, len(blocks), first_depths, depths)
        )

        def build_transition(channels: int, number: int) -> TemporalTransition:
            spans: Depths = depths if number else first_depths
            return TemporalTransition(
                channels, BRANCH * width, (1, 1, 1) if planar else spans, norm, reading
            )

        self.trunk = DenseTrunk(
            in_channels, width, blocks, growth, bottleneck, norm, stem, plan, build_transition
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.trunk.out_channels, num_classes)
        initialize_dense(self)

    def features(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch features"]:
        """Returns the last maps' mean over rows, columns and the frames that are not padding."""
        mask = check_clips(
            clips, mask, in_channels=self.in_channels, smallest=self.smallest, model="t3d"
        )
        clips, mask = bring_forward(clips, mask)
        return self.trunk.describe(clips, mask)

    def forward(self, clips: Clips, mask: Mask | None = None) -> Float[Tensor, "batch classes"]:
        """Returns the logits of every clip."""
        return self.classifier(self.dropout(self.features(clips, mask)))


def _describe_depths(plan: Sequence[Stage], blocks: int, first: Depths, others: Depths) -> str:
    """Says what is mixed in dense layers, which may wait, and in transitions, which do not."""
    spans = {*first, *others}
    alone = sum(not stage.mixes_slices for stage in plan)
    dense = "three slices in every dense layer" + (f" behind {name_waiting(plan)}" if alone else "")
    if alone == len(plan):
        dense = "no slices in its dense layers"
    if blocks == 1:  # and no transition behind it
        return f"Mixes {dense}."
    return f"Mixes {dense}, and {min(spans)} to {max(spans)} side by side in its transitions."
