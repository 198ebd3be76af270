"""Trains the small residual net that stands beside this file: `train_fashion_residual.py`.

On Fashion-MNIST as `train_fashion_cnn.py`, in the same environment; 0.18 million weights, five
residual blocks of two convolutions, two of which halve the picture and have a convolution on the
short way, too. Some minutes on one core. Prints the accuracy on the test images.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from train_fashion_cnn import FOLDER, block, make


class Residual(nn.Module):
    """Two convolutions beside a short way."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        """Make the layers; the short way is an identity where the shapes allow it."""
        super().__init__()
        second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.long = nn.Sequential(block(inputs, outputs, stride), second, nn.BatchNorm2d(outputs))
        short = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        same = inputs == outputs and stride == 1
        self.short = nn.Identity() if same else nn.Sequential(short, nn.BatchNorm2d(outputs))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Add the ways up."""
        return functional.relu(self.long(image) + self.short(image))


class Net(nn.Module):
    """Images [N, 1, 28, 28] to logits [N, 10]."""

    def __init__(self) -> None:
        """Make the layers."""
        super().__init__()
        self.stem = block(1, 16)
        self.wide = nn.Sequential(Residual(16, 32, stride=2), Residual(32, 32), Residual(32, 32))
        self.narrow = nn.Sequential(Residual(32, 64, stride=2), Residual(64, 64))
        self.head = nn.Linear(64, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the logits."""
        logits: torch.Tensor = self.head(self.narrow(self.wide(self.stem(image))).mean((2, 3)))
        return logits


if __name__ == "__main__":
    torch.manual_seed(0)
    make(Net(), FOLDER / "fashion_residual.onnx")
