"""Inflation: the weights of a 2D network become the start of a 3D one.

There is no ImageNet for scans, but a 2D network learns on the user's own slices many times faster
than a 3D one on their stacks. `inflate_state` lays every 2D kernel over the slices that the 3D
kernel spans. On a clip of T copies of one slice the 3D network then answers as the 2D one did
("boring video"), but for the frames within reach of a zero-padded end. Where neighbouring slices
are much alike that is a good start; where they are not (5 mm and more), `centre` starts from a
network that looks at the middle slice of every kernel and has no such border.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from medvid.contract import DataError

How = Literal["repeat", "centre"]

RGB = 3
"""Channels of a stem whose kernels are summed for a network with one channel."""

MIN_SHARE = 0.5
"""Of the 3D network's kernels. With fewer it is another network with some names in common, or the
same one at another width, and whoever asked for inflation would train from random weights."""

NAMES_SHOWN = 4  # in a message or a line of progress; a network has hundreds


@dataclass(frozen=True)
class InflationReport:
    """What became of every tensor; the names are those of the 3D network.

    Args:
        how: `repeat` or `centre`.
        inflated: 2D kernels laid over several slices.
        copied: tensors taken as they were: norms, biases, kernels of one slice.
        summed: kernels (also named above) whose red, green and blue were added up.
        averaged: kernels (also named above) whose mean of red, green and blue stands for each of
            several channels.
        flattened: kernels (also named above) of several slices that were added up to one.
        left: name -> why it keeps its own initialisation.
        unused: names of the 2D network that nothing was made of.
    """

    how: How
    inflated: tuple[str, ...]
    copied: tuple[str, ...]
    summed: tuple[str, ...]
    averaged: tuple[str, ...]
    flattened: tuple[str, ...]
    left: Mapping[str, str]
    unused: tuple[str, ...]

    def describe(self) -> dict[str, Any]:
        """Returns plain values, for JSON."""
        return asdict(self)

    def summarize(self) -> str:
        """Returns one line: how many tensors, and which were left."""
        kernels = (
            f"{len(self.inflated)} kernels inflated ({self.how}), {len(self.copied)} tensors copied"
        )
        summed = f", RGB summed in {shorten(self.summed)}" if self.summed else ""
        mean = f", mean of RGB in {shorten(self.averaged)}" if self.averaged else ""
        flat = f", slices summed in {shorten(self.flattened)}" if self.flattened else ""
        left = f"left at their own start: {shorten(self.left)}" if self.left else "none left"
        unused = f"; not used: {shorten(self.unused)}" if self.unused else ""
        return f"{kernels}{summed}{mean}{flat}; {left}{unused}"


@dataclass(frozen=True)
class Inflated:
    """A whole state dict for the 3D network, and how it came about."""

    state: dict[str, Tensor]
    report: InflationReport


def inflate_state(
    source: Mapping[str, Tensor],
    target: Mapping[str, Tensor],
    *,
    how: How = "repeat",
    leave: Collection[str] = (),
    taps: Mapping[str, Sequence[int]] | None = None,
) -> Inflated:
    """Makes the state of a 3D network from that of a 2D network with the same names.

    Tensors are matched by name and fitted by shape alone:

    * a kernel (out, in, h, w), or (out, in, 1, h, w) as in a planar twin, grows to the 3D kernel's
      t slices: copied to each and divided by t, or laid on the middle one with zeros around;
    * a kernel of several slices for a layer of one, as when scans of 1 mm were trained on and
      these are of 5 mm, is summed over them: equal slices give the same map;
    * a kernel of three channels for a network of one is summed over them, so that a grey picture
      shown to both gives the same map. Both must have been given the same scale of values, and the
      three be red, green and blue: of three windows of a scan the sum means nothing;
    * a kernel of three channels for a network of several others has their mean in each of them, as
      two-stream networks start on flow;
    * a linear layer fits a convolution of one voxel;
    * what has the same shape is copied: norms with their statistics, biases, 3D kernels;
    * all else stays as it is in `target` and is named in the report: layers of other sizes behind
      the maps, such as a classifier, and what counts or marks a module of which a part stays.

    Args:
        source: state dict of the 2D network; see `medvid.layers.layouts` for other names.
        target: state dict of the 3D network, freshly initialised; not changed.
        how: `repeat`, or `centre`.
        leave: names that keep their initialisation in any case, such as the classifier of other
            classes.
        taps: for `centre`, slices of a kernel that share its weight where that is not the middle
            one, by name; see `centre_taps` of a model.

    Raises:
        DataError: when fewer than half of the kernels find one that fits, or a convolution finds
            one of its name that does not: trained layers over a random one see other maps.

    References:
        Carreira and Zisserman, Quo vadis, action recognition?, CVPR 2017, section 2.4.
    """
    state = {name: tensor.clone() for name, tensor in target.items()}
    inflated, copied = list[str](), list[str]()
    summed, averaged, flattened = list[str](), list[str](), list[str]()
    left = dict[str, str]()
    for name, own in target.items():
        if name in leave:
            left[name] = "a classifier of other, or of unknown, classes"
            continue
        if name not in source:
            left[name] = "not in the 2D network"
            continue
        given = source[name]
        fitted = fit_tensor(given, own, how, (taps or {}).get(name))
        if fitted is None:
            left[name] = f"{_shape(given)} in the 2D network, {_shape(own)} here"
            continue
        state[name] = fitted
        deep = given.ndim == 5 and given.shape[2] > 1
        grown = own.ndim == 5 and own.shape[2] > 1 and not deep
        (inflated if grown else copied).append(name)
        if deep and own.shape[2] == 1:
            flattened.append(name)
        if own.ndim > 2 and given.shape[1] == RGB != own.shape[1]:
            (summed if own.shape[1] == 1 else averaged).append(name)
    for name in [name for name in copied if target[name].ndim == 0 and _is_parted(name, left)]:
        copied.remove(name)
        state[name] = target[name].clone()
        left[name] = "a part of its module stays"
    unused = tuple(name for name in source if name not in target or name in left)
    report = InflationReport(
        how,
        tuple(inflated),
        tuple(copied),
        tuple(summed),
        tuple(averaged),
        tuple(flattened),
        left,
        unused,
    )
    _refuse_strangers(report, target, leave)
    _refuse_gaps(report, source, leave)
    return Inflated(state, report)


def fit_tensor(
    given: Tensor, own: Tensor, how: How, taps: Sequence[int] | None = None
) -> Tensor | None:
    """Returns `given` in the shape, type and place of `own`; None where it does not fit."""
    if 2 <= given.ndim < own.ndim:
        # From the linear layer (out, in) and the 2D kernel (out, in, h, w) to (out, in, t, h, w).
        lost = own.ndim - given.ndim
        given = given[(..., *(None,) * lost)] if given.ndim == 2 else given.unsqueeze(2)
    if given.ndim != own.ndim:
        return None
    if given.ndim > 2 and given.shape[1] == RGB != own.shape[1]:
        given = given.sum(dim=1, keepdim=True)
        if own.shape[1] > 1:
            given = (given / RGB).expand(-1, own.shape[1], *given.shape[2:])
    if given.ndim == 5 and given.shape[2] == 1:
        given = _lay_over_slices(given, own.shape[2], how, taps)
    elif given.ndim == 5 and own.shape[2] == 1:
        given = given.sum(dim=2, keepdim=True)
    if given.shape != own.shape:
        return None
    return given.detach().to(own).clone()


def _lay_over_slices(kernel: Tensor, slices: int, how: How, taps: Sequence[int] | None) -> Tensor:
    if how == "repeat":
        return kernel.repeat(1, 1, slices, 1, 1) / slices
    # Of an even number the first of the two middle ones: what comes before it is what TensorFlow's
    # SAME pads in front, so that the kernel looks at the frame it stands on.
    taps = taps or ((slices - 1) // 2,)
    laid = torch.zeros_like(kernel).repeat(1, 1, slices, 1, 1)
    laid[:, :, list(taps)] = kernel / len(taps)
    return laid


def _is_parted(name: str, left: Collection[str]) -> bool:
    """Says whether other tensors of the same module stay at their own start."""
    module = name.rpartition(".")[0]
    return any(other.rpartition(".")[0] == module for other in left)


def _refuse_strangers(
    report: InflationReport, target: Mapping[str, Tensor], leave: Collection[str]
) -> None:
    """Stops when too few kernels were found; norms and biases fit too easily to count."""
    wanted = [name for name, own in target.items() if own.ndim > 1 and name not in leave]
    missing = [name for name in wanted if name in report.left]
    if len(wanted) - len(missing) >= MIN_SHARE * max(len(wanted), 1):
        return
    reasons = shorten([f"{name} ({report.left[name]})" for name in missing])
    unused = f" It holds {shorten(report.unused)}." if report.unused else " It holds no weights."
    raise DataError(
        f"The weights to start from fit {len(wanted) - len(missing)} of the network's "
        f"{len(wanted)} kernels, which is too few to be its 2D twin: {reasons}.{unused} Train the "
        "twin with the same model options and `model.planar=true`.",
        code="nothing_to_inflate",
    )


def _refuse_gaps(
    report: InflationReport, source: Mapping[str, Tensor], leave: Collection[str]
) -> None:
    """Stops where a convolution would stay random among trained ones."""
    gaps = [
        f"{name} ({reason})"
        for name, reason in report.left.items()
        if name in source and source[name].ndim > 2 and name not in leave
    ]
    if gaps:
        raise DataError(
            f"The weights to start from hold other kernels for {shorten(gaps)}; trained layers "
            "over random ones would see other maps. Give the network the model options, channels "
            "and strides of those weights.",
            code="kernels_differ",
        )


def shorten(names: Collection[str]) -> str:
    """Returns the first names, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - NAMES_SHOWN} more" if len(listed) > NAMES_SHOWN else ""
    return ", ".join(listed[:NAMES_SHOWN]) + more


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"
