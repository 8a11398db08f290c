"""The images of one part of a series -> its stack, or why there is none.

Broken images among the slices are the stack's fault, or are left out where that is asked for. A
refusal is fixable where an option of `open_stack` makes a stack of the images; that it does is
tried out on the headers first.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medvid.contract import GeometryError
from medvid.io.dicom_regularity import (
    head,
    list_places,
    longest_even_run,
    may_hide_gaps,
    name_images,
    order_slices,
)
from medvid.io.dicom_series import (
    Fix,
    Found,
    OnBad,
    OnGap,
    Refusal,
    Series,
    build_series,
    is_stack,
)
from medvid.io.dicom_slice import SliceHeader, list_paths
from medvid.io.sidecars import LOCKED
from medvid.io.wording import agree, count

EVEN_SHARE = 0.5
"""A run of even steps is offered as a stack of its own when it holds this share of the slices."""

UNCOUNTED = 10**9
"""Of lost files, where nobody knows how many there are: more than any series has slices."""


def refuse(members: Sequence[SliceHeader], code: str, sentence: str) -> Refusal:
    """Refuses images for one reason; the sentence goes on behind their names."""
    subject = name_images(members)
    if len(members) > 1:
        subject = f"each of {count(len(members), 'image')} ({subject})"
    reason = f"{head(members[0])}{subject} {sentence}"
    return Refusal(tuple(members), code, reason, tuple(list_paths(members)))


def keep_only(refusal: Refusal, known: set[int]) -> Refusal:
    """Returns a refusal of those of its images that are known by `id`."""
    images = tuple(image for image in refusal.images if id(image) in known)
    return replace(refusal, images=images, files=tuple(list_paths(images)))


def merge(broken: Sequence[Refusal]) -> Refusal:
    """Makes one refusal of several; the commonest fault stands first."""
    worst, *others = sorted(broken, key=lambda refusal: -len(refusal.images))
    rest = [image for one in others for image in one.images]
    reason = worst.reason
    if rest:
        reason += (
            f" {count(len(rest), 'other image')} {agree(len(rest), 'has', 'have')} other faults "
            f"({name_images(rest)})."
        )
    files = tuple(list_paths([*worst.images, *rest]))
    return replace(worst, images=(*worst.images, *rest), reason=reason, files=files)


def judge(
    good: Sequence[SliceHeader],
    bad: Sequence[Refusal],
    beside: int,
    on_gap: OnGap,
    on_bad: OnBad,
) -> Found:
    """Builds the stack of one part; broken images among its slices are its fault or left out.

    Args:
        good: its slices.
        bad: refused images among them.
        beside: files beside them that may have been slices too.
        on_gap: see `build_series`.
        on_bad: `stop` at a broken image, or `quarantine`: leave it out, with a note.
    """
    places = len(list_places(good)) if good else 0
    if not bad:
        found = _build(good, on_gap)
        hidden = isinstance(found, Series) and may_hide_gaps(places, beside)
        return _refuse_hidden_gaps(good, beside) if hidden else found
    worst = merge(bad)
    everything = (*worst.images, *good)
    if may_hide_gaps(places, len(worst.images) + beside):
        more = f" {_blame_lost(beside, places)}" if beside else ""
        return replace(worst, images=everything, reason=f"{worst.reason}{more}")
    rest = _build(good, on_gap)
    if on_bad == "quarantine":
        return (
            _leave_out(worst, rest)
            if isinstance(rest, Series)
            else replace(rest, images=everything)
        )
    more, fix = _offer_quarantine(worst, rest)
    return replace(worst, images=everything, reason=f"{worst.reason}{more}", fix=fix)


def _leave_out(worst: Refusal, rest: Series) -> Series:
    lost = len(worst.images)
    note = (
        f"{count(lost, 'broken image')} {agree(lost, 'was', 'were')} left out "
        f"({name_images(worst.images)}; on_bad: quarantine)."
    )
    return replace(rest, notes=(*rest.notes, note), left_out=lost)


def _offer_quarantine(worst: Refusal, rest: Found) -> tuple[str, Fix]:
    """Returns a further sentence on broken images, and the options that leave them out."""
    it = agree(len(worst.images), "it", "them")
    good = len(rest.images)
    if isinstance(rest, Series):
        return (
            f" The other {count(good, 'image')} {agree(good, 'is', 'are')} a regular stack: leave "
            f"{it} out with `on_bad: quarantine`, or export {it} again."
        ), {"on_bad": "quarantine"}
    if "on_gap" in rest.fix:
        return (
            f" Slices are missing without {it}: export {it} again, or use `on_bad: quarantine` "
            f"with `on_gap: {rest.fix['on_gap']}`."
        ), {"on_bad": "quarantine", **rest.fix}
    return "", {}


def _refuse_hidden_gaps(good: Sequence[SliceHeader], beside: int) -> Refusal:
    reason = f"{head(good[0])}{_blame_lost(beside, len(good))}"
    code = LOCKED if beside >= UNCOUNTED else "header_damaged"
    return Refusal(tuple(good), code, reason, tuple(list_paths(good)))


def _blame_lost(beside: int, places: int) -> str:
    if beside >= UNCOUNTED:
        return (
            f"a folder beside its {count(places, 'whole image')} cannot be searched, so that "
            "slices between them may be missing without a trace. Make it readable; or, if it "
            "holds none of its slices, move it elsewhere."
        )
    return (
        f"{count(beside, 'file')} in the folders of its {count(places, 'whole image')} "
        f"{agree(beside, 'is', 'are')} damaged, empty or unreadable, so that slices between "
        "them may be missing without a trace. Export the series again; or, if these files are none "
        "of its slices, move them elsewhere."
    )


def _build(slices: Sequence[SliceHeader], on_gap: OnGap) -> Found:
    try:
        return build_series(slices, on_gap=on_gap)
    except GeometryError as error:
        more, fix = _find_fix(slices, error)
        files = tuple(Path(file) for file in error.files)
        return Refusal(tuple(slices), error.code, f"{error.message}{more}", files, fix)


def _find_fix(slices: Sequence[SliceHeader], error: GeometryError) -> tuple[str, Fix]:
    """Returns a further sentence on uneven slices, and the option that makes a stack of them."""
    if error.code == "missing_slices":
        more = " Ask for what is missing,"
    elif error.code == "uneven_steps":
        more = f"{_offer_even_run(slices)} Export the series with even steps,"
    else:
        return "", {}
    keep = "keep the slices at their true positions with `on_gap: keep`, or leave the series out."
    if is_stack(slices, "resample"):
        return f"{more} fill such gaps with `on_gap: resample`, {keep}", {"on_gap": "resample"}
    if is_stack(slices, "keep"):
        return f"{more} {keep}", {"on_gap": "keep"}
    return f"{more.removesuffix(',')}, or leave it out.", {}


def _offer_even_run(slices: Sequence[SliceHeader]) -> str:
    ordered, along = order_slices([place[0] for place in list_places(slices)])
    first, last = longest_even_run(along)
    run = ordered[first : last + 1]
    if len(run) < max(2, EVEN_SHARE * len(ordered)) or not is_stack(run):
        return ""
    step = (along[last] - along[first]) / (last - first)
    return (
        f" The {len(run)} slices from {along[first]:.1f} to {along[last]:.1f} mm ({run[0].name} to "
        f"{run[-1].name}) are evenly {step:.2f} mm apart: in a folder of their own, they are a "
        "stack."
    )
