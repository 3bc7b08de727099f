"""Linear maps at the speed of the machine.

On many processors oneDNN multiplies fp32 matrices faster than torch's default library does, faster still where the
weights are packed once for many products. Both ways in are probed at their first use: where the result is not that of
fp32 arithmetic, or a function is missing, the default is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Linear = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # input, weight, bias: as F.linear

TOLERANCE = 1e-5  # of a product's error relative to its norm: fp32 has about 1e-6, bf16 and TF32 1e-3 and more
ROWS_MULTIPLE = 16  # rows are padded to it: oneDNN prepares itself for each number of rows anew, which takes long
_PROBE = (48, 384, 640)  # rows, inputs, outputs


class PackedLinear:
    """``F.linear`` for decoding: each weight is packed at its first use, and must not change while the object is used.

    Args:
        rows: How many rows an input will have, about.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._packed: dict[tuple[int, tuple[int, ...]], Tensor] = {}

    def __call__(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """See ``F.linear``; no gradient passes."""
        if values.is_cuda or values.dtype != torch.float32 or not packing_is_exact():
            return F.linear(values, weight, bias)
        key = weight.data_ptr(), tuple(weight.shape)
        if key not in self._packed:
            self._packed[key] = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), self.rows)
        rows = values.flatten(0, -2)
        product = _multiply_packed(F.pad(rows, (0, 0, 0, -len(rows) % ROWS_MULTIPLE)), self._packed[key], bias)
        return product[: len(rows)].unflatten(0, values.shape[:-1])


def _multiply_packed(values: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(values, packed, bias, "none", [], "")
    return product


@cache
def packing_is_exact() -> bool:
    """Whether a product with a packed weight can be had here, and is fp32."""

    def product(values: Tensor, weight: Tensor) -> Tensor:
        return _multiply_packed(values, torch.ops.mkldnn._reorder_linear_weight(weight, len(values)), None)

    return _is_fp32(product)


@cache
def fast_matmul_is_exact() -> bool:
    """Whether oneDNN's fast mode, which its name allows to be bf16, is fp32 here."""

    def product(values: Tensor, weight: Tensor) -> Tensor:
        with _onednn("bf16"):
            return F.linear(values, weight)

    return _is_fp32(product)


@contextmanager
def fast_matmul() -> Iterator[None]:
    """Within it fp32 products on CPUs are oneDNN's, where these are fp32."""
    with _onednn("bf16") if fast_matmul_is_exact() else nullcontext():
        yield


@contextmanager
def _onednn(precision: str) -> Iterator[None]:
    matmul: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    matmul.fp32_precision = precision
    try:
        yield
    finally:
        matmul.fp32_precision = before


def _is_fp32(product: Callable[[Tensor, Tensor], Tensor]) -> bool:
    rows, inputs, outputs = _PROBE
    generator = torch.Generator().manual_seed(0)
    values, weight = (torch.randn(size, inputs, generator=generator) for size in (rows, outputs))
    exact = values.double() @ weight.double().t()
    try:
        with torch.no_grad():
            error = product(values, weight).double() - exact
    except (AttributeError, RuntimeError):
        return False
    return float(error.norm() / exact.norm()) < TOLERANCE
