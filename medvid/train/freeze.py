"""Parts of a network that training leaves as they are: the recipes in stages."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from medvid.build import suggest
from medvid.contract import ConfigError


def freeze_parameters(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Freezes the parameters whose names a pattern fits; all others are trained.

    Args:
        model: its parameters' `requires_grad` is set, so a pattern less thaws again.
        patterns: shell patterns of parameter names, such as `trunk.*` or `trunk.*.conv[1-4]_*`.

    Returns:
        The names of the frozen parameters.

    Raises:
        ConfigError: when a pattern fits no parameter, or nothing would be left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(
                f"`train.freeze` names `{pattern}`, which no parameter fits."
                f"{suggest(pattern, names)} There are {', '.join(list_parts(names))}.",
                code="freeze_unknown",
            )
    frozen = [name for name in names if any(fnmatchcase(name, p) for p in patterns)]
    if names and len(frozen) == len(names):
        raise ConfigError(
            f"`train.freeze: {list(patterns)}` leaves nothing to train. Leave out the pattern of "
            f"the part that should learn; there are {', '.join(list_parts(names))}.",
            code="freeze_all",
        )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return frozen


def find_frozen_norms(model: nn.Module) -> list[nn.Module]:
    """Returns the batch norms that hold still: those with parameters, none of which is trained.

    In training mode their running statistics would go on moving below layers that do not.
    """
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and list(module.parameters())
        and not any(parameter.requires_grad for parameter in module.parameters())
    ]


def list_parts(names: Sequence[str]) -> list[str]:
    """Returns the outermost parts of parameter names as patterns, in order."""
    return list(dict.fromkeys(f"{name.partition('.')[0]}.*" for name in names))
