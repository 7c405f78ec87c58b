r"""Reptile: move toward the weights at which steps on a task arrive."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from advanced_optimizers._checks import check_integer
from advanced_optimizers.automl.meta_learning.checks import Pair, check_losses, check_set
from advanced_optimizers.automl.meta_learning.inner_loop import InnerLoop, Loss, over_tasks


class Reptile(InnerLoop):
    r"""A meta-learner that needs no query set and no gradient of a gradient.

    .. math:: W_i = \theta_i^{(k)}, \qquad \theta \leftarrow \theta + \varepsilon \tfrac1T \sum_i (W_i - \theta)

    where :math:`\theta_i^{(k)}` are the weights after k gradient steps of size :math:`\alpha` on task i.

    :meth:`meta_update` and :meth:`meta_batch` put :math:`\theta - W` into the parameters' ``grad``, as ``backward()``
    would: plain SGD with the rate :math:`\varepsilon` is the update, and a scheduler lowers it.

    Args:
        model: As for :class:`.MAML`.
        lr: :math:`\alpha`, > 0.
        loss: (outputs, labels) -> the mean over the examples; for regression, ``torch.nn.functional.mse_loss``.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from advanced_optimizers.automl import Reptile
        >>> reptile = Reptile(nn.Linear(3, 2), lr=0.1)
        >>> optimizer = torch.optim.SGD(reptile.parameters(), lr=0.5)
        >>> optimizer.zero_grad()
        >>> loss = reptile.meta_update((torch.randn(4, 3), torch.tensor([0, 0, 1, 1])), num_inner_steps=3)
        >>> optimizer.step()

    References:
        Nichol, Achiam, Schulman, *On First-Order Meta-Learning Algorithms*, 2018, arXiv 1803.02999, section 3.

    Departures from the paper:
        Its experiments take steps of Adam without momentum on small batches, with moments that all tasks share. Here
        they are plain gradient steps on the whole set.

    Limitations:
        With one step it is joint training: it takes several to learn more than an average.
    """

    def __init__(self, model: nn.Module, lr: float = 0.01, *, loss: Loss = cross_entropy) -> None:
        super().__init__(model, lr, loss, first_order=True)

    def meta_update(self, task_set: Pair, num_inner_steps: int = 5) -> Tensor:
        """Adds the way back from the weights of one task to the gradients.

        Args:
            task_set: (data, labels), (examples, ...) each.
            num_inner_steps: k, steps on the whole set, >= 1.

        Returns:
            The loss before the first step, without a gradient.

        Raises:
            ValueError: The set is empty, or has not one label per example.
            RuntimeError: The loss is no longer finite.
        """
        data, labels = check_set("task_set", task_set)
        return self._meta_step((data[None], labels[None]), num_inner_steps)

    def meta_batch(self, task_sets: Pair, num_inner_steps: int = 5) -> Tensor:
        """The mean of :meth:`meta_update` over tasks of equal sizes, all at once.

        Args:
            task_sets: (data, labels), (tasks, examples, ...) each.
            num_inner_steps: k, steps on each whole set, >= 1.
        """
        return self._meta_step(check_set("task_sets", task_sets, tasks=True), num_inner_steps)

    def _meta_step(self, task_sets: Pair, num_inner_steps: int) -> Tensor:
        steps = check_integer("num_inner_steps", num_inner_steps, 1)
        with torch.no_grad():
            arrived, losses = over_tasks(lambda x, y: self._descend((x, y), steps))(*task_sets)
        check_losses(losses, self.lr)
        for name, parameter in self.shared_weights().items():
            way_back = parameter.detach() - arrived[name].mean(dim=0)
            parameter.grad = way_back if parameter.grad is None else parameter.grad + way_back
        return losses[:, 0].mean()
