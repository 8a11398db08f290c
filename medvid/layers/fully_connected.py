"""Fully connected layers as the papers before batch normalisation stack them."""

from torch import nn

from medvid.layers.frame_trunks import initialize_relu


def connect(before: int, after: int, dropout: float) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Returns a fully connected layer with He's weights, ReLU and dropout.

    Args:
        before: features in.
        after: units.
        dropout: behind the units.
    """
    linear = nn.Linear(before, after)
    initialize_relu(linear)
    return linear, nn.ReLU(), nn.Dropout(dropout)


def build_classifier(features: int, num_classes: int) -> nn.Linear:
    """Returns a linear layer with small weights: its first answers are nearer to even than He's.

    Args:
        features: in.
        num_classes: logits.
    """
    classifier = nn.Linear(features, num_classes)
    nn.init.normal_(classifier.weight, std=0.01)  # AlexNet's (Krizhevsky et al., section 5)
    nn.init.zeros_(classifier.bias)
    return classifier
