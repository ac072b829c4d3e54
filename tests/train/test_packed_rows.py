"""Products, embeddings and the loss with a packed matrix are those of the floats that it decodes to."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from small import tiny_llama

from ruvq.train import QatConfig, packed_rows, prepare_qat
from ruvq.train.lora import add_adapters, pack_base
from ruvq.train.packed_rows import PackedLoss, PackedRows, embedding, packed_loss, product, product_back
from ruvq.train.quantizer import WeightQuantizer

ROWS, WIDTH = 50, 300
Matrix = tuple[PackedRows, torch.Tensor]  # packed, and what it decodes to


@pytest.fixture(params=["pi-t2", "pi-x2", "pi-x3", "pi-q3", "ternary"])
def matrix(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Matrix:
    monkeypatch.setattr(packed_rows, "CHUNK", 7 * WIDTH)  # 50 rows in eight parts, the last one short
    torch.manual_seed(3)
    of = WeightQuantizer(torch.randn(ROWS, WIDTH), QatConfig.preset(request.param))
    data = torch.frombuffer(bytearray(of.data()), dtype=torch.uint8)
    return PackedRows(of.codec, (ROWS, WIDTH), of.turn, data), of.value


def test_products_and_rows(matrix: Matrix) -> None:
    packed, weights = matrix
    x, g = torch.randn(2, 5, WIDTH), torch.randn(2, 5, ROWS)
    torch.testing.assert_close(product(x, packed), x @ weights.T, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(product_back(g, packed), g @ weights, rtol=1e-4, atol=1e-4)
    tokens = torch.tensor([[4, 49, 4], [0, 7, 13]])
    assert torch.equal(embedding(tokens, packed), weights[tokens])


def test_the_loss_and_its_gradient_are_cross_entropy_s(matrix: Matrix) -> None:
    packed, weights = matrix
    hidden = (torch.randn(9, WIDTH) / 10).requires_grad_()
    targets = torch.tensor([0, 6, 7, 13, 14, 48, 49, 3, 3])
    loss = PackedLoss.apply(hidden, packed, targets) * 2
    (found,) = torch.autograd.grad(loss, hidden)
    expected = F.cross_entropy(hidden @ weights.T, targets) * 2
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, torch.autograd.grad(expected, hidden)[0], rtol=1e-4, atol=1e-5)


def test_a_model_s_loss_and_its_adapters_gradients_are_those_with_logits() -> None:
    config = QatConfig.pit2(lora_rank=4)
    model = pack_base(add_adapters(prepare_qat(tiny_llama(), config), config))
    tokens = torch.randint(0, 61, (2, 12), generator=torch.Generator().manual_seed(1))
    adapters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(packed_loss(model, tokens), adapters)
    logits = model(tokens).logits[:, :-1].flatten(0, 1)
    expected = F.cross_entropy(logits, tokens[:, 1:].flatten())
    torch.testing.assert_close(packed_loss(model, tokens), expected, rtol=1e-4, atol=1e-5)
    for a, b in zip(found, torch.autograd.grad(expected, adapters), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
