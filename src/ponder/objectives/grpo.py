"""Group relative policy optimisation, as DeepSeekMath defined it (arXiv:2402.03300)."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from ponder.core.protocols import Objective
from ponder.objectives._policy import PolicyGradient, Rewards

STD_FLOOR = 1e-4
"""Added to the standard deviation, so that a nearly equal group is not blown up."""


class GRPO(PolicyGradient):
    """Advantage (r - mean) / std within the group; mean over each completion's tokens, then over completions.

    Eq. 3 and section 4.1.2. The standard deviation divides by G - 1, as the paper's successors in code do.
    """

    kl_coef: float = Field(default=0.04, ge=0.0)

    def advantages(self, rewards: Rewards) -> Rewards:
        """Standardise."""
        return (rewards - rewards.mean()) / (np.std(rewards, ddof=1) + STD_FLOOR)

    def averaging(self, members: int) -> tuple[float, float]:
        """Every completion weighs the same, however long it is."""
        return 1.0 / max(1, members), 1.0


plugin: type[Objective] = GRPO
