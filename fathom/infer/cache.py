"""What attention keeps of the tokens already read, so that each new token costs one step and not a whole pass.

Letters: B batch rows, T new positions, S all positions so far, x and y whatever one layer keeps of a token: key and
value heads with grouped attention, the normed latent and the rotary key with latent attention (arXiv:2405.04434,
section 2.1.2).

Rows of different lengths are padded on the left: every row then writes at the same place, and its last token is the
last column. Padding is never seen by a real token and real tokens count their positions from zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

_FIRST_CAPACITY = 256  # tokens; doubled when full, so that copying costs less than one extra write a token


class Cache:
    """Both tensors of every layer, in buffers that are allocated ahead and grow by doubling."""

    def __init__(
        self,
        num_layers: int,
        *,
        padding_B: Tensor | None = None,
        capacity: int = _FIRST_CAPACITY,
        device: torch.device | str = "cpu",
    ) -> None:
        """`padding_B`: how many columns on the left of each row are padding (None: none anywhere)."""
        self.num_layers = num_layers
        self.device = device
        self.length = 0  # columns filled, padding included; the same in every row
        self.padding_B = padding_B if padding_B is not None and bool(padding_B.any()) else None
        self._capacity = max(capacity, 1)
        self._buffers: list[tuple[Tensor, Tensor] | None] = [None] * num_layers

    def append(self, layer: int, first_BTx: Tensor, second_BTy: Tensor) -> tuple[Tensor, Tensor]:
        """Store one layer's new tokens and return all of that layer's: (first_BSx, second_BSy), views of the buffers.

        The layers of one pass call in order; with the last one the new tokens count as read.
        """
        end = self.length + first_BTx.shape[1]
        first, second = self._room(layer, first_BTx, second_BTy, end)
        first[:, self.length : end] = first_BTx
        second[:, self.length : end] = second_BTy
        if layer == self.num_layers - 1:
            self.length = end
        return first[:, :end], second[:, :end]

    def positions(self, num_new: int) -> Tensor:
        """Position of each of the next `num_new` tokens in its own row, positions_BT (1, T without padding); 0 on
        padding.
        """
        columns_1T = torch.arange(self.length, self.length + num_new, device=self.device)[None]
        if self.padding_B is None:
            return columns_1T
        return (columns_1T - self.padding_B[:, None]).clamp_min(0)

    def mask(self, num_new: int) -> Tensor | None:
        """Which of all columns each of the next `num_new` tokens may see, bool mask_B1TS, True where it may.

        None stands for the two cases that need no mask: one new token that sees everything, and a first pass without
        padding, which is plainly causal.
        """
        if self.padding_B is None and (num_new == 1 or self.length == 0):
            return None
        columns_S = torch.arange(self.length + num_new, device=self.device)
        own_T = columns_S[self.length :]
        causal_TS = columns_S[None, :] <= own_T[:, None]
        if self.padding_B is None:
            return causal_TS[None, None]
        real_BS = columns_S[None, :] >= self.padding_B[:, None]
        itself_TS = columns_S[None, :] == own_T[:, None]  # padding sees itself, or its softmax would be NaN
        return ((causal_TS & real_BS[:, None, :]) | itself_TS)[:, None]

    def truncate(self, length: int) -> None:
        """Forget everything from column `length` on."""
        self.length = min(self.length, max(length, 0))

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows (indices, in the order wanted) and give the memory of the others back."""
        self.padding_B = None if self.padding_B is None else self.padding_B[rows]
        self._buffers = [None if pair is None else (pair[0][rows], pair[1][rows]) for pair in self._buffers]

    @property
    def num_bytes(self) -> int:
        """Bytes allocated for all layers."""
        return sum(t.numel() * t.element_size() for pair in self._buffers if pair is not None for t in pair)

    def _room(self, layer: int, first_BTx: Tensor, second_BTy: Tensor, end: int) -> tuple[Tensor, Tensor]:
        """The layer's buffers, with at least `end` columns."""
        pair = self._buffers[layer]
        while self._capacity < end:
            self._capacity *= 2
        if pair is None or pair[0].shape[1] < end:
            pair = (self._grown(first_BTx, pair and pair[0]), self._grown(second_BTy, pair and pair[1]))
            self._buffers[layer] = pair
        return pair

    def _grown(self, new_BTx: Tensor, old_BSx: Tensor | None) -> Tensor:
        buffer = new_BTx.new_empty((new_BTx.shape[0], self._capacity, *new_BTx.shape[2:]))
        if old_BSx is not None:
            buffer[:, : self.length] = old_BSx[:, : self.length]
        return buffer
