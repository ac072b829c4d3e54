"""A weight matrix that is quantized in every forward pass: module state around a codec.

The forward pass gives exactly what the exported file decodes to. Codes are assigned anew when the weights
have changed, for many matrices together; between two assignments they are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from ..formats.transform import Transform
from .codecs import Codec, codec
from .config import KS, QatConfig
from .hadamard import transform
from .ste import Clipped, Ewgs, KeptCodes, LearnedStep, RoundTo, Standard, lsq_scale

Version = tuple[int, ...] | None
AT_ONCE = 1 << 22  # weights whose codes are assigned together, or one matrix


class Turn(Function):
    """The transform of the rows; orthogonal, so its gradient goes through the inverse."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, turn: Transform, inverse: bool) -> Tensor:
        ctx.turn, ctx.inverse = turn, inverse
        return transform(x, turn, inverse)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return transform(grads[0], ctx.turn, not ctx.inverse), None, None


def turned(x: Tensor, turn: Transform | None, inverse: bool = False) -> Tensor:
    """Rows in float32 after the transform, if there is one, or with `inverse` before it; for autograd."""
    return x.float() if turn is None else Turn.apply(x.float(), turn, inverse)


class WeightQuantizer(nn.Module):
    """`quantizer(weights)`: (rows, width) float32 in, what the file decodes to out; gradients as `ste` says.

    State: `codes`, `headers` (as in the file), `age` (looks at changed weights so far) and `norm`; with "lsq"
    the parameter `log_alpha` (rows, blocks), so that alpha = exp(log_alpha) > 0 whatever it learns (INV-2).
    """

    codes: Tensor
    headers: Tensor
    value: Tensor

    def __init__(self, weights: Tensor, config: QatConfig, *, assigned: bool = True) -> None:
        """`assigned`: choose codes at once; otherwise `refresh` must do it with `search`, best for many."""
        super().__init__()
        rows, width = weights.shape
        self.config = config
        self.codec: Codec = codec(config.format, width, config.k)
        self.turn = config.turn
        device = weights.device
        blocks = len(self.codec.blocks)
        self.register_buffer("codes", torch.zeros(rows, width, dtype=torch.uint8, device=device))
        self.register_buffer("headers", torch.zeros(rows, blocks, 2, dtype=torch.uint8, device=device))
        self.register_buffer("value", torch.zeros(rows, width, device=device), persistent=False)
        self._seen: tuple[int, ...] | None = None
        self.age = 0
        self.norm = math.nan  # of the weights at the last look at the whole model
        self.log_alpha: nn.Parameter | None = None
        if config.learns_steps:
            self.log_alpha = nn.Parameter(torch.zeros(rows, blocks, device=device))
        if assigned:
            refresh([(self, weights, None)], search=True)

    # ---- what is stored ----

    def data(self) -> bytes:
        """The rows' bytes for the file."""
        return self.codec.pack(self.codes, self.headers)

    @property
    def alpha(self) -> Tensor:
        """(rows, blocks): scales as they are stored; 0 only for blocks of zeros."""
        return self.codec.alpha(self.headers)

    @torch.no_grad()
    def stored(self) -> Tensor:
        """What the file decodes to, before the transform is undone: (rows, width) float32."""
        return self.codec.values(self.codes, self.headers)

    def get_extra_state(self) -> Tensor:
        """`age`, `norm` and the matrix's own k (0: none) go with the codes into a checkpoint."""
        return torch.tensor([float(self.age), self.norm, self.codec.asked_k or 0], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """From a checkpoint; whether the codes belong to the weights is found out by the next look."""
        self.age, self.norm, self._seen = int(state[0]), float(state[1]), None
        self.codec = codec(self.config.format, self.codec.width, int(state[2]) or None)

    # ---- assignment ----

    def _versions(self, weights: Tensor, version: Version) -> tuple[int, ...]:
        own = () if self.log_alpha is None else (self.log_alpha._version,)
        return (*(version or (id(weights), weights._version)), *own)

    def changed(self, weights: Tensor, version: Version = None) -> bool:
        """Whether weights or scales differ from those of the last look."""
        return self._seen != self._versions(weights, version)

    def adopt(self, weights: Tensor, version: Version, norm: float) -> bool:
        """After a checkpoint was read: takes codes and weights as belonging together, if they do."""
        if self._seen is not None or norm != self.norm:
            return False
        self.settle()
        self._seen = self._versions(weights, version)
        return True

    @torch.no_grad()
    def take(self, codes: Tensor, headers: Tensor, weights: Tensor) -> None:
        """Codes and headers from elsewhere, such as a file, kept until `weights` change; these become what
        the codes stand for."""
        self.codes.copy_(codes)
        self.headers.copy_(headers)
        if self.log_alpha is not None:
            self.log_alpha.copy_(self.alpha.clamp(min=1e-6).log())
        self.settle()
        weights.copy_(self.value)
        self.norm = float(torch.linalg.vector_norm(weights, dtype=torch.float64))
        self._seen = self._versions(weights, None)

    @torch.no_grad()
    def choose_k(self, weights: Tensor) -> None:
        """One k for the whole matrix: that whose search leaves the least squared error."""
        turned = self.turned(weights.detach())
        choices = [codec(self.config.format, self.codec.width, k) for k in range(KS[0], KS[1] + 1)]
        errors = [float((c.values(*c.search(turned)) - turned).square().sum()) for c in choices]
        self.codec = choices[errors.index(min(errors))]

    def turned(self, weights: Tensor) -> Tensor:
        """The weights as they are quantized."""
        return turned(weights, self.turn)

    def unturned(self, weights: Tensor) -> Tensor:
        """Back from `turned`."""
        return turned(weights, self.turn, inverse=True)

    @torch.no_grad()
    def settle(self) -> None:
        """Computes the value that codes and headers stand for."""
        self.value.copy_(self.unturned(self.stored()))

    def forward(self, weights: Tensor, version: Version = None) -> Tensor:
        """`version`: what tells whether `weights` changed, where they are computed anew each time."""
        if self.changed(weights, version):
            refresh([(self, weights, version)])
        ste = self.config.ste
        if ste == "standard":
            return Standard.apply(weights, self.value)
        turned, levels = self.turned(weights), self.codec.levels(self.codes)
        step = self.codec.spread(self._steps())
        if ste == "lsq":
            return self.unturned(self._learned(turned, levels, step))
        value = levels * step
        if ste == "ewgs":
            return self.unturned(Ewgs.apply(turned, value, step, self.config.ewgs_delta))
        return self.unturned(Clipped.apply(turned, value, self.codec.inside(turned, step)))

    def _steps(self) -> Tensor:
        stored = self.codec.alpha(self.headers)
        alpha = stored if self.log_alpha is None else RoundTo.apply(self.log_alpha.exp(), stored)
        return self.codec.steps(self.headers, alpha)

    def _learned(self, turned: Tensor, levels: Tensor, step: Tensor) -> Tensor:
        scale = lsq_scale(min(256, self.codec.width), self.codec.highest)
        if (self.age - 1) % self.config.refresh_every:
            return KeptCodes.apply(turned, levels, step, scale)
        return LearnedStep.apply(turned, levels, step, self.codec.inside(turned, step), scale)


Job = tuple[WeightQuantizer, Tensor, Version]


@torch.no_grad()
def refresh(jobs: Iterable[Job], *, search: bool | None = None) -> None:
    """Assigns codes to the matrices that have changed; those of one width are worked on as one matrix.

    `search`: look for scales too (None: as often as the settings say; never where they are learned).
    """
    groups: dict[tuple[Any, ...], list[Job]] = {}
    for quantizer, weights, version in jobs:
        due = search or not quantizer.training or quantizer.age % quantizer.config.refresh_every == 0
        if due:
            if quantizer.config.k_per_layer and _searches(quantizer, search):
                quantizer.choose_k(weights)
            key = (quantizer.codec, quantizer.turn, weights.device, _searches(quantizer, search))
            groups.setdefault(key, []).append((quantizer, weights, version))
        elif quantizer.log_alpha is not None:  # codes are kept, scales are followed
            quantizer.headers.copy_(quantizer.codec.with_alpha(quantizer.headers, quantizer.log_alpha.exp()))
            quantizer.settle()
        quantizer.age += 1
        quantizer._seen = quantizer._versions(weights, version)
    for (_, _, _, searches), members in groups.items():
        for batch in _batches(members):
            _assign(batch, searches)


def _batches(members: Sequence[Job]) -> Iterator[list[Job]]:
    """Some at a time, so that what is computed of them doesn't take a multiple of the model's memory."""
    batch: list[Job] = []
    for job in members:
        batch.append(job)
        if sum(weights.numel() for _, weights, _ in batch) >= AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _searches(quantizer: WeightQuantizer, search: bool | None) -> bool:
    if quantizer.log_alpha is not None and not search:
        return False
    assignments = quantizer.age // quantizer.config.refresh_every
    return bool(search) or assignments % quantizer.config.search_every == 0


def _assign(members: Sequence[Job], searches: bool) -> None:
    lead = members[0][0]
    weights = torch.cat([w.detach().float() for _, w, _ in members])
    turned = lead.turned(weights)
    headers = torch.cat([_headers(q) for q, _, _ in members])
    on_host = turned.device.type == "cpu" and all(q.log_alpha is None for q, _, _ in members)
    if searches or (on_host and lead.codec.search_is_cheap):
        codes, headers = lead.codec.search(turned)
    else:
        codes = lead.codec.assign(turned, headers)
    value, first = lead.unturned(lead.codec.values(codes, headers)), 0
    for quantizer, matrix, version in members:
        last = first + matrix.shape[0]
        quantizer.codes.copy_(codes[first:last])
        quantizer.headers.copy_(headers[first:last])
        quantizer.value.copy_(value[first:last])
        if searches and quantizer.log_alpha is not None:
            quantizer.log_alpha.copy_(quantizer.alpha.clamp(min=1e-6).log())
            quantizer._seen = quantizer._versions(matrix, version)
        first = last


def _headers(quantizer: WeightQuantizer) -> Tensor:
    if quantizer.log_alpha is None:
        return quantizer.headers
    return quantizer.codec.with_alpha(quantizer.headers, quantizer.log_alpha.exp())
