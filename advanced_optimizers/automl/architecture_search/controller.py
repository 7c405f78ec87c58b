"""A controller that chooses one thing after the other and sees what it has chosen, and REINFORCE to train it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from advanced_optimizers._checks import check_integer, check_range

# The weights' first values are uniform in +-INIT, as published.
_INIT = 0.1


class Sampled(NamedTuple):
    """Sampled architectures.

    Attributes:
        choices: int64, shape (n, steps): which option was chosen at each step.
        log_probs: Log-probabilities of the whole sequences, shape (n,), with a gradient.
        entropies: Sum over the steps of the entropy of the distribution chosen from, shape (n,), with a gradient.
    """

    choices: Tensor
    log_probs: Tensor
    entropies: Tensor


class Controller(nn.Module):
    r"""An LSTM that chooses an option at each step; its input is the embedding of what it chose the step before.

    :math:`\pi(a) = \prod_t \pi(a_t \mid a_1, \dots, a_{t-1})`. The logits are squashed,
    :math:`c \tanh(z / T)`, so that no option is ever ruled out.

    Args:
        steps: Number of choices, >= 1.
        options: Options of each, >= 2.
        hidden_size: Units of each layer, >= 1.
        num_layers: Layers, >= 1.
        tanh_constant: c > 0; infinity does not squash. Published: 1.1 / 2.5 for operations.
        temperature: T > 0.

    Departures from the paper: each step has its own output row, so the options of two steps share no weights.
    """

    def __init__(
        self,
        steps: int,
        options: int,
        *,
        hidden_size: int = 32,
        num_layers: int = 2,
        tanh_constant: float = math.inf,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.steps = check_integer("steps", steps, low=1)
        self.options = check_integer("options", options, low=2)
        self.tanh_constant = check_range("tanh_constant", tanh_constant, low=0.0, open_low=True)
        self.temperature = check_range("temperature", temperature, low=0.0, open_low=True)
        self.lstm = nn.LSTM(hidden_size, hidden_size, num_layers, batch_first=True)
        self.output = nn.Linear(hidden_size, steps * options)
        self.embedding = nn.Embedding(options + 1, hidden_size)  # the last one is the first input
        for p in self.parameters():
            nn.init.uniform_(p, -_INIT, _INIT)

    def sample(self, n: int = 1, *, generator: torch.Generator | None = None) -> Sampled:
        """Draws n >= 1 sequences; the same generator state draws the same ones."""
        return self._run(check_integer("n", n, low=1), None, generator)

    def evaluate(self, choices: Tensor) -> Sampled:
        """The log-probabilities and entropies of given sequences, int64 of shape (n, steps).

        Raises:
            ValueError: A sequence has the wrong length, or an option that does not exist; the message names its place.
        """
        if choices.ndim != 2 or choices.shape[1] != self.steps:
            raise ValueError(f"choices must have shape (n, {self.steps}), got {tuple(choices.shape)}")
        outside = ((choices < 0) | (choices >= self.options)).nonzero()
        if len(outside):
            row, step = outside[0].tolist()
            raise ValueError(
                f"choices must be in 0 to {self.options - 1}, got {int(choices[row, step])} at position {step}"
            )
        return self._run(len(choices), choices, None)

    def _run(self, n: int, given: Tensor | None, generator: torch.Generator | None) -> Sampled:
        device = self.output.weight.device
        last = torch.full((n,), self.options, device=device)
        state: tuple[Tensor, Tensor] | None = None
        choices, log_probs, entropies = [], [], []
        for step in range(self.steps):
            hidden, state = self.lstm(self.embedding(last)[:, None], state)
            log_p = self._logits(hidden[:, 0], step).log_softmax(dim=1)
            if given is None:
                last = torch.multinomial(log_p.detach().exp(), 1, generator=generator)[:, 0]
            else:
                last = given[:, step]
            choices.append(last)
            log_probs.append(log_p.gather(1, last[:, None])[:, 0])
            entropies.append(-(log_p.exp() * log_p).sum(dim=1))
        return Sampled(torch.stack(choices, 1), torch.stack(log_probs).sum(0), torch.stack(entropies).sum(0))

    def _logits(self, hidden: Tensor, step: int) -> Tensor:
        logits = self.output(hidden)[:, step * self.options : (step + 1) * self.options] / self.temperature
        return logits if math.isinf(self.tanh_constant) else self.tanh_constant * logits.tanh()


class Reinforce:
    r"""REINFORCE with a moving average of earlier rewards as baseline.

    .. math::
        \nabla J \approx \frac1n \sum_k (R_k + \lambda H_k - b)\, \nabla \log \pi(a_k), \qquad
        b \leftarrow d\, b + (1 - d)\, \overline{R}

    The entropy is part of the reward and is not differentiated, as published. The baseline is updated after use, so it
    does not depend on the sample and leaves the gradient unbiased. The official code updates it before, which
    multiplies the gradient of one sample by d. It starts as the first mean reward, so the first step has only the
    advantages within its batch.

    Args:
        controller: What is trained.
        lr: Adam's rate, > 0; published: 0.0035.
        decay: d in [0, 1); published: 0.99.
        entropy_weight: :math:`\lambda \ge 0`; published: 1e-4.

    Attributes:
        baseline: b; None before the first step.
    """

    def __init__(
        self, controller: Controller, *, lr: float = 0.0035, decay: float = 0.99, entropy_weight: float = 1e-4
    ) -> None:
        check_range("lr", lr, low=0.0, high=math.inf, open_low=True, open_high=True)
        self.controller = controller
        self.decay = check_range("decay", decay, low=0.0, high=1.0, open_high=True)
        self.entropy_weight = check_range("entropy_weight", entropy_weight, low=0.0, high=math.inf, open_high=True)
        self.optimizer = torch.optim.Adam(controller.parameters(), lr=lr)
        self.baseline: float | None = None

    def step(
        self,
        reward: Callable[[list[int]], float],
        samples: int = 1,
        *,
        generator: torch.Generator | None = None,
    ) -> float:
        """Draws architectures, asks for their rewards and makes one step; returns the mean reward.

        Raises:
            ValueError: A reward is not finite; nothing has moved then.
        """
        drawn = self.controller.sample(samples, generator=generator)
        rewards = torch.tensor([_checked(reward(row), row) for row in drawn.choices.tolist()])
        gains = rewards + self.entropy_weight * drawn.entropies.detach()
        baseline = float(gains.mean()) if self.baseline is None else self.baseline
        self.optimizer.zero_grad()
        policy_loss(drawn.log_probs, gains, baseline).backward()
        self.optimizer.step()
        self.baseline = self.decay * baseline + (1 - self.decay) * float(gains.mean())
        return float(rewards.mean())


def policy_loss(log_probs: Tensor, rewards: Tensor | Sequence[float], baseline: float = 0.0) -> Tensor:
    """Minus the mean of (R - b) log pi: its gradient is minus an unbiased estimate of that of the mean reward."""
    advantages = torch.as_tensor(rewards, dtype=log_probs.dtype, device=log_probs.device) - baseline
    return -(advantages * log_probs).mean()


def _checked(reward: float, architecture: list[int]) -> float:
    if not math.isfinite(reward):
        raise ValueError(f"reward must be finite, got {reward} for the architecture {architecture}")
    return float(reward)
