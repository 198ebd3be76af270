"""The one error that users see: what is wrong, and what to do about it."""

from __future__ import annotations


class OnnxOptError(Exception):
    """Report something that the user can mend: a file, an option, a missing provider.

    `message` names the node or file and says what is wrong; `hint` says what to do. Both are one
    line each: the command line prints them and exits with code 2. A fault of our own is an
    ordinary exception with a traceback, never this class.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = one_line(message)
        self.hint = one_line(hint)

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class ModelError(OnnxOptError):
    """The model file cannot be read, or is no valid ONNX model."""


class OutputError(OnnxOptError):
    """The result cannot be written where it was asked for."""


class ProviderError(OnnxOptError):
    """An execution provider or onnxruntime itself is missing or broken."""


class DataError(OnnxOptError):
    """Samples do not fit the model's inputs, or cannot be read."""


def one_line(text: str) -> str:
    """Return a text of several lines as one."""
    return " ".join(text.split()).rstrip(".")
