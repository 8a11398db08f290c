"""What every transform is: a callable from one sample to another, and how random ones draw."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, runtime_checkable

from pydantic import Field

if TYPE_CHECKING:
    import numpy as np

    class Randomizable:
        """What this package uses of MONAI's class of that name, which has no types."""

        R: np.random.RandomState

        def set_random_state(self, seed: int) -> "Randomizable":
            """Starts the transform's own stream of random numbers anew."""
            ...
else:
    from monai.transforms import Randomizable

__all__ = ["OutputSize", "Probability", "Randomizable", "Sample", "Size", "Transform"]

Sample = dict[str, Any]
"""`medvid.contract.Sample` before labels are added; always one clip, (C, T, H, W) float32."""

OutputSize = Literal["kept", "fixed", "varies"]
"""Of (T, H, W): as it came in; the same for every clip; or depending on the clip."""

Probability = Annotated[float, Field(ge=0, le=1)]
Size = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]
"""(H, W) in pixels."""


@runtime_checkable
class Transform(Protocol):
    """Turns a sample into a new one, and leaves the old one as it was.

    Random transforms are MONAI `Randomizable`s besides: all they draw comes from `self.R`, and
    nothing that they drew outlives the call.
    """

    output_size: OutputSize

    def __call__(self, sample: Sample) -> Sample:
        """Returns the changed sample."""
        ...
