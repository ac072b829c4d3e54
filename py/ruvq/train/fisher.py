"""Fisher information of a model's matrices, by gradients: sum over tokens of |g|^2 x x^T.

x is what a matrix multiplies, g the gradient of the next token's loss with respect to its product, of the
same token. Summed over a matrix's rows, that is what a small error e in a row costs, e F e^T, on average over
the rows; its diagonal is the Fisher information of each column. Activations of one window and the sums of all
matrices are held beside the model; gradients of weights never are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import DataError
from ..sources import open_source
from .models import gguf_rows, load_model

Progress = Callable[[int, int], None]


class _Sums:
    """F of each linear layer, added up by hooks. float64 (width, width), so that the order of windows hardly
    matters."""

    def __init__(self, model: nn.Module, diagonal: bool) -> None:
        self.of: dict[str, Tensor] = {}
        self._diagonal = diagonal
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear):
                module.register_full_backward_hook(self._hook(name))
                module.register_forward_pre_hook(self._keep)

    def _keep(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        module.seen = args[0].detach()

    def _hook(self, name: str) -> Callable[..., None]:
        def add(module: Any, of_inputs: Any, of_outputs: Any) -> None:
            x, g = (t.flatten(0, -2).float() for t in (module.seen, of_outputs[0]))
            module.seen = None
            weighted = x * g.square().sum(-1, keepdim=True)
            found = (weighted * x).sum(0) if self._diagonal else weighted.T @ x
            self.of[name] = self.of.get(name, 0) + found.double()  # type: ignore[call-overload, operator]

        return add


def fisher(
    path: str | os.PathLike[str],
    windows: Sequence[Sequence[int]],
    *,
    diagonal: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[str, np.ndarray]]:
    """(GGUF's name of a matrix, F) of each of a model's matrices that is multiplied with something.

    `path`: a float GGUF file; `windows`: tokens, each from an empty context. F: float32 (width, width),
    symmetric, or with `diagonal` (width,); a mean over tokens. `progress(tokens done, in all)`. DataError
    when a gradient isn't finite, or all of a matrix's are zero.
    """
    before = torch.get_num_threads()
    if threads:
        torch.set_num_threads(threads)
    try:
        yield from _fisher(path, windows, diagonal, progress)
    finally:
        torch.set_num_threads(before)


def _fisher(
    path: str | os.PathLike[str], windows: Sequence[Sequence[int]], diagonal: bool, progress: Progress | None
) -> Iterator[tuple[str, np.ndarray]]:
    with open_source(path) as source:  # type: ignore[arg-type]
        model, parameters = load_model(source), source.parameters
    model.requires_grad_(False)
    sums = _Sums(model, diagonal)
    done, total = 0, sum(map(len, windows))
    for window in windows:
        done += len(window)
        if len(window) > 1:
            _backward(model, window)
        if progress:
            progress(done, total)
    for name, values in sums.of.items():
        target, _ = gguf_rows(f"{name}.weight", parameters)
        if target == "output.weight" and parameters.tied:
            target = "token_embd.weight"
        _check(target, values)
        yield target, (values / total).float().numpy()


def _backward(model: Any, window: Sequence[int]) -> None:
    tokens = torch.tensor([list(window)])
    inputs = model.get_input_embeddings()(tokens).requires_grad_()
    logits = model(inputs_embeds=inputs, use_cache=False).logits[0, :-1]
    loss = F.cross_entropy(logits.float(), tokens[0, 1:], reduction="sum")
    loss.backward()


def _check(tensor: str, values: Tensor) -> None:
    if not bool(torch.isfinite(values).all()):
        raise DataError(
            "gradients are not finite", subject=tensor, expected="finite Fisher information",
            actual="NaN or infinity", hint="look at the model and the text with `ruvq eval`",
        )  # fmt: skip
    if not bool(values.any()):
        raise DataError(
            "gradients never reached a matrix", subject=tensor, expected="gradients that are not all zero",
            actual="zeros", hint="calibrate on more text; if it stays so, the model itself is damaged",
        )  # fmt: skip
