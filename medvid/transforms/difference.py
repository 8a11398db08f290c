"""The difference of neighbouring frames, as a modality of its own."""

import torch

from medvid.transforms.protocol import OutputSize, Sample


class Difference:
    """Adds the difference of every frame to the one before it, under the key `difference`.

    The cheap stand-in for motion in video. In a scan it is the change of tissue from slice to
    slice: edges that lie across the slices light up, vessels that run through them do not. Scans
    whose slices are brightened alternately (interleaved MR) turn into stripes: normalise them
    first.

    Args:
        per_unit: divide by the distance of the slices (mm; seconds in videos), so that scans of
            1 and of 5 mm give comparable values.

    Shape:
        `clip` (C, T, H, W) stays; `difference` (C, T, H, W) is new. Its first frame is zero, so
        that T is that of the clip.

    References:
        TSN (Wang et al., ECCV 2016, section 3.2), RGB difference.
    """

    output_size: OutputSize = "kept"

    def __init__(self, per_unit: bool = False) -> None:
        self.per_unit = per_unit

    def __call__(self, sample: Sample) -> Sample:
        """Returns the sample with one more modality."""
        clip = sample["clip"]
        difference = torch.zeros_like(clip, memory_format=torch.contiguous_format)
        torch.sub(clip[:, 1:], clip[:, :-1], out=difference[:, 1:])
        if self.per_unit:
            steps = sample["positions"].diff()
            # Padding repeats a frame at its place: no distance, and no difference to divide.
            steps = torch.where(steps > 0, steps, torch.ones_like(steps))
            difference[:, 1:] /= steps[:, None, None]
        return {**sample, "difference": difference}
