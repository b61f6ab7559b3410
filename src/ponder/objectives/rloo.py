"""REINFORCE with a leave-one-out baseline (arXiv:2402.14740): compared with the others alone."""

from __future__ import annotations

from ponder.core.protocols import Objective
from ponder.objectives._policy import PolicyGradient, Rewards


class RLOO(PolicyGradient):
    """Advantage r - mean of the other rewards; a completion is one action, so its tokens are summed.

    Eq. 8. The paper subtracts its KL penalty from the reward; here `kl_coef` adds the k3 term to the loss, as
    for the other objectives, and is 0 unless asked for, because a verifiable reward needs no leash.
    """

    def advantages(self, rewards: Rewards) -> Rewards:
        """Compare with the mean of the others."""
        others = (rewards.sum() - rewards) / (len(rewards) - 1)
        return rewards - others

    def averaging(self, members: int) -> tuple[float, float]:
        """The log-probability of the whole completion; the step averages over completions."""
        return 1.0, 1.0


plugin: type[Objective] = RLOO
