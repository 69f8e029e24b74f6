"""Linear maps whose bias no loss sees."""

from __future__ import annotations

from torch import nn


class DifferencesLinear(nn.Linear):
    """Linear map to values of which only differences between cells count, so that its bias is left as it was made.

    The gradient of such a bias is zero but for rounding errors. Adam moves by the sign of a gradient, however small: the
    bias would differ between machines, and between one process and several.
    """

    def __init__(self, d_input: int, d_output: int) -> None:
        super().__init__(d_input, d_output)
        self.bias.requires_grad_(False)
