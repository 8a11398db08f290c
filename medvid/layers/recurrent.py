"""LSTMs over the frames of a clip: what Ng et al. and Donahue et al. have in common."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

Frames = Float[Tensor, "batch t features"]
Mask = Bool[Tensor, "batch t"]


def read_in_order(
    lstm: nn.LSTM, frames: Frames, mask: Mask | None
) -> Float[Tensor, "batch t outputs"]:
    """Runs an LSTM over the frames that are not padding, in both directions; others get zeros."""
    if mask is None or bool(mask.all()):
        outputs: Tensor = lstm(frames)[0]
        return outputs
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)  # padding behind the others
    clips = torch.arange(len(mask), device=mask.device)[:, None]
    packed = pack_padded_sequence(
        frames[clips, order], mask.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False
    )
    ahead, _ = pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=mask.shape[1])
    outputs = torch.zeros_like(ahead)
    outputs[clips, order] = ahead
    return outputs


def drop_second_bias(lstm: nn.LSTM) -> None:
    """Leaves one bias a gate, as in Caffe: cuDNN's second one becomes a constant 0."""
    for name in [name for name, _ in lstm.named_parameters() if name.startswith("bias_hh")]:
        zeros = torch.zeros_like(lstm.get_parameter(name))
        delattr(lstm, name)
        lstm.register_buffer(name, zeros, persistent=False)
        setattr(lstm, name, zeros)  # tells the list of weights that is given to cuDNN


def describe_reading(layers: int, bidirectional: bool) -> str:
    """Says what a network of LSTMs makes of neighbouring slices."""
    many = f"{layers} layer{'s' if layers > 1 else ''} of LSTM"
    both = ", in both directions" if bidirectional else ""
    return f"Reads the slices' features in order with {many}{both}."
