"""Trains the small net that stands beside this file: `train_fashion_cnn.py`, in `.envs/exports`.

Fashion-MNIST (MIT licence, Zalando SE) from a Debian package; 0.14 million weights, seven
convolutions with a residual and a depthwise one among them, some minutes on one core. Prints the
accuracy on the test images.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))

import data_garments  # noqa: E402 - the scripts beside are no package

_EPOCHS, _BATCH, _RATE = 8, 128, 3e-3


def block(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, normalisation, ReLU."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class Net(nn.Module):
    """Images [N, 1, 28, 28] to logits [N, 10]."""

    def __init__(self) -> None:
        """Make the layers."""
        super().__init__()
        self.stem = nn.Sequential(block(1, 24), block(24, 48, stride=2))
        self.residual = nn.Sequential(block(48, 48), nn.Conv2d(48, 48, 3, 1, 1))
        self.depthwise = nn.Sequential(block(48, 48, stride=2, groups=48), nn.Conv2d(48, 96, 1))
        self.last = block(96, 96)
        self.head = nn.Linear(96, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the logits."""
        found = self.stem(image)
        found = functional.relu(found + self.residual(found))
        found = self.last(functional.relu(self.depthwise(found)))
        logits: torch.Tensor = self.head(found.mean((2, 3)))
        return logits


def train(net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Train with Adam and one cycle of its rate; images are mirrored and moved by lot."""
    optimizer = torch.optim.Adam(net.parameters(), _RATE)
    steps = _EPOCHS * (len(images) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, steps)
    for epoch in range(_EPOCHS):
        order, start = torch.randperm(len(images)), time.perf_counter()
        for at in range(0, len(images) - _BATCH + 1, _BATCH):
            some = order[at : at + _BATCH]
            batch = functional.pad(images[some], (2, 2, 2, 2))
            top, left = torch.randint(5, (2,)).tolist()
            batch = batch[:, :, top : top + 28, left : left + 28]
            batch = torch.where(torch.rand(len(some), 1, 1, 1) < 0.5, batch.flip(3), batch)
            loss = functional.cross_entropy(net(batch), labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch}: loss {loss:.3f}, {time.perf_counter() - start:.0f} s", flush=True)


def make(net: nn.Module, output: Path) -> None:
    """Train a net, test it, export it to `output`."""
    torch.set_num_threads(1)
    images, labels = (torch.from_numpy(np.array(part)) for part in data_garments.dataset("train"))
    train(net, images, labels.long())
    net.eval()
    images, labels = (torch.from_numpy(np.array(part)) for part in data_garments.dataset("t10k"))
    with torch.no_grad():
        found = torch.cat([net(some).argmax(1) for some in images.split(500)])
    print(f"right: {(found == labels).float().mean():.4f}")
    torch.onnx.export(
        net,
        (images[:1],),
        str(output),
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    make(Net(), FOLDER / "fashion_cnn.onnx")
