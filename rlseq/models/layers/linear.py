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
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_View = tuple[int, torch.Size, tuple[int, ...]]
Linear = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # input, weight, bias: as F.linear

# Of a product's error relative to its norm: fp32 has about 1e-6, bf16 and TF32 1e-3 and more.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
_PROBE = (48, 384, 640)  # rows, inputs, outputs


class PackedLinear:
    """``F.linear`` for decoding: each weight is packed at its first use, and must not change while the object is used.

    Args:
        rows: How many rows an input will have, about.
        dtype: Of the products; what goes in and comes out keeps its own.
    """

    def __init__(self, rows: int, dtype: torch.dtype = torch.float32) -> None:
        self.rows, self.dtype = rows, dtype
        self._packed: dict[_View, tuple[Tensor, Tensor]] = {}  # the weight is kept, so that no other takes its place

    def __call__(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """See ``F.linear``; no gradient passes."""
        packs = not values.is_cuda and packing_is_exact(self.dtype)
        if values.dtype != torch.float32 or (self.dtype == torch.float32 and not packs):
            return F.linear(values, weight, bias)
        key = _view(weight)
        if key not in self._packed:
            cast = weight.detach().to(self.dtype).contiguous()
            self._packed[key] = weight, pack(cast, self.rows) if packs else cast
        product, cast_bias = _multiply_padded if packs else F.linear, None if bias is None else bias.to(self.dtype)
        return product(values.to(self.dtype), self._packed[key][1], cast_bias).to(values.dtype)


class UnrolledLinear:
    """``F.linear`` for the steps of one unrolled recurrence: a weight's gradient is one product over all steps.

    Summed up step by step, it would be read and written as often as there are steps. Weights are packed for the steps,
    forward and backward.

    Args:
        rows: How many rows an input will have, about.
    """

    def __init__(self, rows: int) -> None:
        self._multiply = PackedLinear(rows)
        self._weights: dict[_View, tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]] = {}

    def __call__(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """See ``F.linear``."""
        key = _view(weight)
        if key not in self._weights:
            uses: list[tuple[Tensor, Tensor]] = []
            self._weights[key] = weight, _GradientOfUses.apply(_autocast(weight), uses), uses
        _, shared, uses = self._weights[key]
        product: Tensor = _Use.apply(_autocast(values), shared, uses, self._multiply)
        return product if bias is None else product + bias


class _GradientOfUses(torch.autograd.Function):
    """A weight as it is; its gradient is made when all ``uses``, (input, gradient of the output) of each, are known."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, uses: list[tuple[Tensor, Tensor]]) -> Tensor:
        ctx.uses = uses
        ctx.set_materialize_grads(False)
        return weight.view_as(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor, None]:
        inputs, outputs = (torch.cat([part.flatten(0, -2) for part in parts]) for parts in zip(*ctx.uses, strict=True))
        ctx.uses.clear()
        return outputs.t() @ inputs, None


class _Use(torch.autograd.Function):
    """A product with a weight whose gradient is left to ``_GradientOfUses``."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weight: Tensor, uses: list[tuple[Tensor, Tensor]], multiply: PackedLinear
    ) -> Tensor:
        ctx.save_for_backward(values, weight)
        ctx.uses, ctx.multiply = uses, multiply
        return multiply(values, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        values, weight = ctx.saved_tensors
        ctx.uses.append((values, grads[0]))
        return ctx.multiply(grads[0], weight.t()), None, None, None


def _autocast(values: Tensor) -> Tensor:
    """As autocast would have it: a function of our own is on its own."""
    kind = values.device.type
    return values.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else values


def _view(weight: Tensor) -> _View:
    """What tells a weight, or a part of one, from others that are alive."""
    return weight.data_ptr(), weight.shape, weight.stride()


def pack(weight: Tensor, rows: int) -> Tensor:
    """The weight in oneDNN's layout for inputs of about so many rows."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    return packed


def _multiply_padded(values: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    rows = values.flatten(0, -2)
    missing = _padded_rows(len(rows)) - len(rows)
    product = _multiply_packed(F.pad(rows, (0, 0, 0, missing)) if missing else rows, packed, bias)
    return product[: len(rows)].unflatten(0, values.shape[:-1])


def _padded_rows(rows: int) -> int:
    """``rows`` rounded up to a multiple of 4 that adds at most 1/16, or 3 rows.

    oneDNN compiles a kernel for each number of rows, so there should be few.
    """
    multiple = 1 << max(2, rows.bit_length() - 5)
    return -(-rows // multiple) * multiple


def _multiply_packed(values: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(values, packed, bias, "none", [], "")
    return product


@cache
def packing_is_exact(dtype: torch.dtype = torch.float32) -> bool:
    """Whether a product with a packed weight can be had here, and is as exact as the type promises."""

    def product(values: Tensor, weight: Tensor) -> Tensor:
        return _multiply_packed(values.to(dtype), pack(weight.to(dtype), len(values)), None)

    return _is_exact(product, dtype)


@cache
def fast_matmul_is_exact() -> bool:
    """Whether oneDNN's fast mode, which its name allows to be bf16, is fp32 here."""

    def product(values: Tensor, weight: Tensor) -> Tensor:
        with _onednn("bf16"):
            return F.linear(values, weight)

    return _is_exact(product, torch.float32)


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


def _is_exact(product: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype) -> bool:
    rows, inputs, outputs = _PROBE
    generator = torch.Generator().manual_seed(0)
    values, weight = (torch.randn(size, inputs, generator=generator) for size in (rows, outputs))
    exact = values.double() @ weight.double().t()
    try:
        with torch.no_grad():
            error = product(values, weight).double() - exact
    except (AttributeError, RuntimeError):
        return False
    return float(error.norm() / exact.norm()) < TOLERANCE[dtype]
