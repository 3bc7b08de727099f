"""Linear maps by packed weights: the same numbers, and a way back where a machine cannot."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from rlseq.models.layers import linear
from rlseq.models.layers.linear import PackedLinear, UnrolledLinear, fast_matmul, packing_is_exact

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
both_types = pytest.mark.parametrize("dtype", TOLERANCE)


def tensors(*shape: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(size, generator=generator) for size in (shape, (24, shape[-1]), (24,)))  # type: ignore[return-value]


def error(ours: torch.Tensor, exact: torch.Tensor) -> float:
    return float((ours.detach().double() - exact.detach()).norm() / exact.detach().norm())


@both_types
@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("shape", [(1, 7), (16, 32), (3, 5, 40), (0, 8)])
def test_products_are_linear_maps(
    shape: tuple[int, ...], packs: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not packs:
        monkeypatch.setattr(linear, "packing_is_exact", lambda dtype: False)
    values, weight, bias = tensors(*shape)
    ours = PackedLinear(16, dtype)
    for given in (bias, None):
        found = ours(values, weight[:, :], given)
        exact = F.linear(values.double(), weight.double(), None if given is None else given.double())
        assert found.shape == exact.shape and found.dtype == torch.float32
        assert not exact.numel() or error(found, exact) < TOLERANCE[dtype]


def test_weights_and_slices_of_them_are_told_apart() -> None:
    values, weight, _ = tensors(4, 8)
    ours = PackedLinear(4)
    for part in (weight, weight[:, :5], weight[12:], weight + 1.0, weight):
        torch.testing.assert_close(ours(values[:, : part.shape[1]], part), F.linear(values[:, : part.shape[1]], part))


@pytest.mark.parametrize("autocast", [False, True])
def test_the_gradients_of_unrolled_steps_are_those_of_plain_ones(autocast: bool) -> None:
    values, weight, bias = (part.requires_grad_() for part in tensors(5, 24))
    found = []
    for make in (lambda: UnrolledLinear(5), lambda: F.linear):
        step, state, total = make(), values, torch.zeros(())
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            for _ in range(3):
                state = torch.tanh(step(state, weight, bias)) + step(state[:, :8], weight[:, 8:16], None)
                total = total + state.sum()
        found.append([total, *torch.autograd.grad(total, [values, weight, bias])])
    for ours, plain in zip(*found, strict=True):
        assert error(ours, plain.double()) < (0.1 if autocast else 1e-5)


def test_unrolled_steps_without_a_gradient_are_linear_maps() -> None:
    values, weight, bias = tensors(5, 24)
    torch.testing.assert_close(UnrolledLinear(5)(values, weight, bias), F.linear(values, weight, bias))


def test_double_precision_stays_double() -> None:
    values, weight, bias = (part.double() for part in tensors(4, 8))
    assert torch.equal(PackedLinear(4)(values, weight, bias), F.linear(values, weight, bias))


def test_inexact_products_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose packed fp32 product is bf16 in truth, and one that has none."""

    def coarse(values: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return F.linear(values.bfloat16().float(), packed.bfloat16().float(), bias)

    def missing(values: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        raise RuntimeError("not compiled with oneDNN")

    monkeypatch.setattr(linear, "pack", lambda weight, rows: weight)
    for product, exact in ((F.linear, True), (coarse, False), (missing, False)):
        monkeypatch.setattr(linear, "_multiply_packed", product)
        packing_is_exact.cache_clear()
        assert packing_is_exact(torch.float32) is exact
    monkeypatch.undo()
    packing_is_exact.cache_clear()


def test_fast_products_are_fp32_and_end_with_their_scope() -> None:
    values, weight, _ = tensors(48, 64)
    before = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]
    with pytest.raises(KeyError), fast_matmul():
        assert error(F.linear(values, weight), F.linear(values.double(), weight.double())) < 1e-5
        raise KeyError
    assert torch.backends.mkldnn.matmul.fp32_precision == before  # type: ignore[attr-defined]
