"""GRPO done right (arXiv:2503.20783): without the two divisions that bias it."""

from __future__ import annotations

from pydantic import Field

from ponder.core.protocols import Objective
from ponder.objectives._policy import PolicyGradient, Rewards


class DrGRPO(PolicyGradient):
    """Advantage r - mean; tokens summed and divided by a constant.

    Dividing by the standard deviation favours problems that are nearly always or nearly never solved, and
    dividing by a completion's own length makes long wrong answers cheap; this does neither (section 3.2).
    """

    max_tokens: int = Field(default=512, ge=1)
    """The constant each completion is divided by, as the paper does by the generation limit. It scales the
    loss, so that changing it changes what a gradient norm means; it never depends on what was sampled."""

    def advantages(self, rewards: Rewards) -> Rewards:
        """Centre."""
        return rewards - rewards.mean()

    def averaging(self, members: int) -> tuple[float, float]:
        """Every token weighs the same."""
        return 1.0, float(self.max_tokens)


plugin: type[Objective] = DrGRPO
