"""The arms of a study: what each lets the network see, and what it changes in the config."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from medvid.contract import ConfigError

Kind = Literal["window", "control", "network", "learning"]

EXPECTED: Mapping[str, str] = {
    "repeat": "no better than the narrowest window",
    "permuted_labels": "an interval that holds 0.5",
}
"""What a control must show whatever the task; the others answer questions."""

SAYS: Mapping[str, str] = {
    "repeat": "the target, and copies of it instead of neighbours",
    "shuffle": "the target and its neighbours in a random order",
    "reverse": "the target and its neighbours in reversed order",
    "far": "the target, and frames from elsewhere in the case instead of neighbours",
    "position": "where the frames lie, and no pixels",
    "permuted_labels": "the whole window, trained on labels that were dealt anew",
}
"""What the network of each control sees."""


@dataclass(frozen=True)
class Arm:
    """One row of the study.

    Args:
        name: of its folder, and in tables.
        kind: `window` (the curve), `control`, `network` (natural ones) or `learning`.
        title: for people.
        says: what the network sees, in a sentence.
        changes: laid over the study's config, section by section.
        window: frames; None where it is given in mm.
        window_mm: mm; None where it is given in frames.
        control: which one.
        share: of the training patients.
        same_as: the arm whose cells serve for this one, because they would be the same.
    """

    name: str
    kind: Kind
    title: str
    says: str
    changes: Mapping[str, Any]
    window: int | None = None
    window_mm: float | None = None
    control: str | None = None
    share: float | None = None
    same_as: str | None = None


def list_arms(
    options: Mapping[str, Any],
    length: int,
    networks: Mapping[str, Mapping[str, Any]],
    model: Mapping[str, Any],
) -> list[Arm]:
    """Lists the arms of a study, the curve's windows first and rising.

    Args:
        options: of the section `context`, all filled in.
        length: frames of every clip.
        networks: sections `model` by short name, of the natural networks.
        model: the section `model` of the matched network.
    """
    base = {"name": "context", "length": length, "positions": options["positions"]}
    windows = _list_windows(options, base)
    widest = windows[-1]
    arms = list(windows)
    arms += [_make_control(name, widest, windows[0]) for name in options["controls"]]
    arms += [
        replace(
            widest,
            name=f"net_{name}",
            kind="network",
            title=name,
            says=f"the network `{name}`{_say_options(section, networks)} on the widest window",
            changes={**widest.changes, "model": dict(section)},
            same_as=widest.name if dict(section) == dict(model) else None,
        )
        for name, section in networks.items()
    ]
    arms += [
        replace(
            widest,
            name=f"{widest.name}_share{round(100 * share)}",
            kind="learning",
            title=f"{widest.title}, {share:.0%} of the patients",
            says=f"the widest window, trained on {share:.0%} of the training patients for as many "
            "steps as on all of them",
            changes=_add_data(widest.changes, splits={"train_share": share}),
            share=share,
        )
        for share in sorted(options["learning_curve"])
    ]
    _refuse_doubles(arms)
    return arms


def _list_windows(options: Mapping[str, Any], base: Mapping[str, Any]) -> list[Arm]:
    if options["windows"]:
        return [
            Arm(
                name=f"w{window}",
                kind="window",
                title="1 slice" if window == 1 else f"{window} slices",
                says="the target alone" if window == 1 else f"{window} slices around the target",
                changes={"data": {"sampler": {**base, "window": window}}},
                window=window,
            )
            for window in sorted(options["windows"])
        ]
    return [
        Arm(
            name=f"mm{window:g}",
            kind="window",
            title="1 slice" if window == 0 else f"{window:g} mm",
            says="the target alone" if window == 0 else f"{window:g} mm around the target",
            changes={"data": {"sampler": {**base, "window_mm": window}}},
            window_mm=float(window),
        )
        for window in sorted(options["windows_mm"])
    ]


def _make_control(name: str, widest: Arm, narrowest: Arm) -> Arm:
    sampler = widest.changes["data"]["sampler"]
    alone = {key: value for key, value in sampler.items() if not key.startswith("window")}
    changes: Mapping[str, Mapping[str, Any]] = {
        "repeat": {"sampler": {**alone, "window": 1}},
        "shuffle": {"sampler": {**sampler, "order": "shuffled"}},
        "reverse": {"sampler": {**sampler, "order": "reversed"}},
        "far": {"sampler": {**sampler, "neighbours": "far"}},
        "position": {"sampler": sampler, "pixels": False},
        "permuted_labels": {"sampler": sampler, "permute_labels": True},
    }
    is_narrowest = name == "repeat" and (narrowest.window == 1 or narrowest.window_mm == 0)
    return replace(
        widest,
        name=name,
        kind="control",
        title=name.replace("_", " "),
        says=SAYS[name],
        changes={"data": changes[name]},
        control=name,
        # In the matched network the window of one frame already shows copies of the target.
        same_as=narrowest.name if is_narrowest else None,
    )


def _say_options(section: Mapping[str, Any], networks: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns what tells a network from the others of the same model; nothing where it is alone."""
    if sum(other["name"] == section["name"] for other in networks.values()) < 2:
        return ""
    options = [f"{key} {value}" for key, value in section.items() if key != "name"]
    return f" ({', '.join(options) or 'as it comes'})"


def _add_data(changes: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    return {**changes, "data": {**changes["data"], **options}}


def _refuse_doubles(arms: Sequence[Arm]) -> None:
    names = [arm.name for arm in arms]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise ConfigError(
            f"The study has the arm `{doubled}` twice. Leave one of them out of the section "
            "`context`.",
            code="doubled_arm",
        )
