r"""Model-agnostic meta-learning, and Meta-SGD, which learns the sizes of its steps."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from advanced_optimizers.automl.meta_learning.checks import Pair
from advanced_optimizers.automl.meta_learning.inner_loop import Loss, QueryLoop, Weights


class MAML(QueryLoop):
    r"""Weights from which a few gradient steps on a new task lead far.

    .. math::
        \theta_i^{(0)} = \theta, \quad
        \theta_i^{(s+1)} = \theta_i^{(s)} - \alpha \nabla L_{support,i}(\theta_i^{(s)}), \qquad
        \theta \leftarrow \theta - \beta \nabla_\theta \tfrac1T \sum_i L_{query,i}(\theta_i^{(S)})

    :meth:`meta_update` returns the loss on the query set of one task, :meth:`meta_batch` the mean over many; the outer
    step :math:`\beta` is that of any optimizer over ``parameters()``. The meta-gradient goes through the steps, so it
    has second derivatives; with ``first_order`` those count as zero (FOMAML).

    Args:
        model: Any module without running statistics; recurrent layers and attention work, too.
        lr: :math:`\alpha`, > 0. Advised: 0.01 for regression, 0.4 for five classes of one example each; with large
            steps, do not take more of them than were trained.
        first_order: Whether to leave out second derivatives.
        loss: (outputs, labels) -> the mean over the examples; for regression, ``torch.nn.functional.mse_loss``.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from advanced_optimizers.automl import MAML
        >>> maml = MAML(nn.Linear(3, 2), lr=0.1)
        >>> optimizer = torch.optim.Adam(maml.parameters(), lr=1e-3)
        >>> support, query = (torch.randn(4, 3), torch.tensor([0, 0, 1, 1])), (torch.randn(2, 3), torch.tensor([0, 1]))
        >>> optimizer.zero_grad()
        >>> maml.meta_update(support, query, num_inner_steps=2).backward()
        >>> optimizer.step()

    References:
        Finn, Abbeel, Levine, *Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks*, ICML 2017, arXiv
        1703.03400, algorithms 1 and 2.

    Departures from the paper:
        Its code sums the cross-entropy over all support examples and divides by those of one class: with N classes its
        step of 0.4 is one of 0.4 N on the mean loss, which is ours by default. Batch normalization is refused: the
        paper's takes its statistics from the query examples together, so that they help each other.

    Limitations:
        Memory grows with the number of steps. The outer optimizer may use autocast; the steps are in the weights' type.
        Models whose forward pass changes buffers in place fail under ``vmap``. ``lr`` is not in ``state_dict``.
    """

    def __init__(
        self, model: nn.Module, lr: float = 0.01, *, first_order: bool = False, loss: Loss = cross_entropy
    ) -> None:
        super().__init__(model, lr, loss, first_order)


class MetaSGD(QueryLoop):
    r"""MAML with a step size for each weight, learned together with the weights.

    .. math:: \theta_i^{(s+1)} = \theta_i^{(s)} - \alpha \odot \nabla L_{support,i}(\theta_i^{(s)})

    with one :math:`\alpha` for each number in :math:`\theta`; it may become negative.

    The learned sizes suit the number of steps that was trained, and more steps usually diverge: they give a warning.

    Args:
        model: As for :class:`MAML`.
        lr: Every number of :math:`\alpha` at the beginning, > 0.
        first_order: Whether to leave out second derivatives.
        loss: As for :class:`MAML`.

    Attributes:
        rates: The tensors of :math:`\alpha`, in the order of the model's parameters; part of ``parameters()``.

    References:
        Li, Zhou, Chen, Li, *Meta-SGD: Learning to Learn Quickly for Few-Shot Learning*, 2017, arXiv 1707.09835,
        algorithm 1.

    Departures from the paper:
        It takes one step; here the number is free. The paper draws the first sizes at random; here they are ``lr``.

    Limitations:
        As for :class:`MAML`, with twice the parameters.
    """

    trained_steps: Tensor

    def __init__(
        self, model: nn.Module, lr: float = 0.01, *, first_order: bool = False, loss: Loss = cross_entropy
    ) -> None:
        super().__init__(model, lr, loss, first_order)
        self._names = tuple(self.shared_weights())
        self.rates = nn.ParameterList([torch.full_like(p, self.lr) for p in self.shared_weights().values()])
        self.register_buffer("trained_steps", torch.tensor(0))

    def meta_update(self, support_set: Pair, query_set: Pair, num_inner_steps: int = 5) -> Tensor:
        """See :meth:`.QueryLoop.meta_update`."""
        self._train_steps(num_inner_steps)
        return super().meta_update(support_set, query_set, num_inner_steps)

    def meta_batch(self, support_sets: Pair, query_sets: Pair, num_inner_steps: int = 5) -> Tensor:
        """See :meth:`.QueryLoop.meta_batch`."""
        self._train_steps(num_inner_steps)
        return super().meta_batch(support_sets, query_sets, num_inner_steps)

    def _step(self, weights: Weights, gradients: Weights) -> Weights:
        rates = dict(zip(self._names, self.rates, strict=True))
        return {name: weight - rates[name] * gradients[name] for name, weight in weights.items()}

    def _train_steps(self, num_inner_steps: int) -> None:
        steps = super()._check_steps(num_inner_steps)
        self.trained_steps.clamp_(min=steps)

    def _check_steps(self, num_inner_steps: int) -> int:
        steps, trained = super()._check_steps(num_inner_steps), int(self.trained_steps)
        if trained and steps > trained:
            warnings.warn(
                f"num_inner_steps is {steps}, but the step sizes were learned for {trained}: more usually diverge",
                stacklevel=3,
            )
        return steps
