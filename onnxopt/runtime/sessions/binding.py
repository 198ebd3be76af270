"""Prepares the one call that is measured: with copies from and to numpy arrays, or without.

Copied, each run takes numpy arrays and gives numpy arrays: what most programs do. Bound (IO
binding), inputs lie where the nodes that read them compute before the first run, and outputs stay
where they are made. onnxruntime copies an input to its device when it is bound, once
(IOBinding.cc, `BindInput`), and fills the outputs of the first run again in each that follows:
addresses never change, as a captured CUDA graph wants it. A graph is captured of one binding only:
with CUDA graphs a session has one caller.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

from onnxopt.errors import DataError
from onnxopt.report import Copies
from onnxopt.runtime.sessions.ortvalues import FOREIGN, to_ort_value
from onnxopt.runtime.sessions.session import Feed, cause

_TENSOR_OF_NUMBERS = re.compile(r"tensor\((?!string)\w+\)")
# What onnxruntime calls memory, and what its Python layer calls the device. Memory that is not
# named here can be reached from the CPU, pinned memory among it, or is left to onnxruntime.
_DEVICES = {"Cuda": "cuda", "DML": "dml", "Cann": "cann"}
_ON_CUDA = {"cuda", "tensorrt"}


def prepare(
    session: Any, feed: Feed, *, io: Copies = "copied", provider: str = "cpu"
) -> Callable[[], object]:
    """Return a call that runs `session` on `feed` and does nothing else: for measuring.

    A bound call owns its outputs: callers that run at the same time each need their own. It ends
    when the computation has ended, on a device as well. `provider` is the short name of the one
    that the session was opened for. Raises `DataError` where `io` is 'bound' and the model has
    strings, sequences or maps; the call raises whatever onnxruntime raises.
    """
    if io == "bound":
        return functools.partial(_run_bound, session, bind(session, feed, provider=provider))
    names = [output.name for output in session.get_outputs()]
    types = {put.name: put.type for put in session.get_inputs()}
    if not {put.type for put in (*session.get_inputs(), *session.get_outputs())} & set(FOREIGN):
        return functools.partial(session.run, names, dict(feed))
    values = {name: to_ort_value(value, types[name]) for name, value in feed.items()}
    return functools.partial(session.run_with_ort_values, names, values)


def bind(session: Any, feed: Feed, *, provider: str = "cpu") -> Any:
    """Return an IOBinding of `feed` and all outputs to the devices that read and make them.

    An output whose shape changes from run to run on the same inputs (a random one) cannot be
    bound: the second run says so. Raises `DataError` for what is no tensor of numbers, or does
    not fit.
    """
    for put in (*session.get_inputs(), *session.get_outputs()):
        if not _TENSOR_OF_NUMBERS.fullmatch(put.type):
            raise DataError(
                f"{put.name!r} is a {put.type}: only tensors of numbers can be bound to a device",
                "measure it with copies",
            )
    types = {put.name: put.type for put in session.get_inputs()}
    binding = session.io_binding()
    for name, value in feed.items():
        try:
            binding.bind_ortvalue_input(name, to_ort_value(value, types.get(name, "")))
        except Exception as error:  # onnxruntime's errors share no class but this
            raise DataError(f"input {name!r} cannot be bound: {cause(error)}") from error
    binding.synchronize_inputs()
    for output, (device, number) in zip(
        session.get_outputs(), _output_devices(session, provider), strict=True
    ):
        binding.bind_output(output.name, device, number)
    return binding


def _run_bound(session: Any, binding: Any) -> None:
    session.run_with_iobinding(binding)
    binding.synchronize_outputs()


def _output_devices(session: Any, provider: str) -> list[tuple[str, int]]:
    """Return the device on which each output is made, by onnxruntime's name and number."""
    if not hasattr(session, "get_output_memory_infos"):  # onnxruntime 1.23.0
        device = "cuda" if provider in _ON_CUDA else "cpu"
        return [(device, 0) for _ in session.get_outputs()]
    return [
        (_DEVICES[info.name], info.device_id) if info.name in _DEVICES else ("cpu", 0)
        for info in session.get_output_memory_infos()
    ]
