r"""Steps on one task from shared weights: what the gradient-based meta-learners have in common.

.. math::
    \theta^{(0)} = \theta, \qquad \theta^{(s+1)} = \theta^{(s)} - \alpha \nabla L_{support}(\theta^{(s)})

Weights are a mapping from names to tensors, and the model runs with them without owning them (``functional_call``): the
steps are a function of :math:`\theta`, so that torch can differentiate through them, and many tasks are one ``vmap``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from advanced_optimizers._checks import check_bool, check_integer, unknown_name
from advanced_optimizers.automl.meta_learning.checks import (
    Pair,
    check_known_classes,
    check_losses,
    check_model,
    check_positive,
    check_set,
)

Weights = dict[str, Tensor]
# (outputs, labels) -> a scalar
Loss = Callable[[Tensor, Tensor], Tensor]


class InnerLoop(nn.Module):
    """A model and gradient steps on a task. Subclasses say how the weights that the steps begin from are learned.

    Args:
        model: Any module without running statistics. Parameters that do not require a gradient stay as they are, in the
            steps, too.
        lr: The size of the steps, > 0.
        loss: (outputs, labels) -> a scalar, the mean over the examples.
        first_order: Whether the gradients of the steps count as constants.

    Raises:
        TypeError: ``model`` is not a module, or an argument has another type.
        ValueError: ``lr`` is not a positive number; ``model`` has nothing to learn or keeps running statistics.
    """

    def __init__(self, model: nn.Module, lr: float, loss: Loss, first_order: bool) -> None:
        super().__init__()
        self.model = check_model(model)
        self.lr = check_positive("lr", lr)
        if not callable(loss):
            raise TypeError(f"loss must be a function of outputs and labels, got {loss!r}")
        self.loss = loss
        self.first_order = check_bool("first_order", first_order)

    def forward(self, x: Tensor) -> Tensor:
        """The model's outputs with the shared weights."""
        return self.model(x)

    def forward_with_weights(self, x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """The model's outputs with other weights.

        Args:
            x: What the model takes.
            weights: By names of the model's parameters; those that are left out, and buffers, are the model's own.

        Raises:
            ValueError: The model has no parameter of that name.
        """
        known = dict(self.model.named_parameters())
        for name in weights:
            if name not in known:
                raise unknown_name("parameter", name, known)
        return functional_call(self.model, dict(weights), (x,))

    def shared_weights(self) -> Weights:
        """The parameters that steps change, by name; the tensors are the model's own."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def adapt(self, support_set: Pair, num_inner_steps: int = 5) -> Weights:
        """The weights after steps on one task; the model keeps its own.

        Args:
            support_set: (data, labels), (examples, ...) each.
            num_inner_steps: Steps on the whole set, >= 0.

        Returns:
            By name, tensors that can be differentiated with respect to the shared weights, unless under ``no_grad``.

        Raises:
            ValueError: The set is empty, or has not one label per example.
            RuntimeError: The loss is no longer finite.
        """
        check_set("support_set", support_set)
        steps = self._check_steps(num_inner_steps)
        weights, losses = self._descend(support_set, steps)
        check_losses(losses, self.lr)
        return weights

    def outputs_by_step(self, support_sets: Pair, query_data: Tensor, num_inner_steps: int) -> Tensor:
        """The outputs on query sets of many tasks after 0, 1, ... steps, without gradients, however the losses go.

        Args:
            support_sets: (data, labels), (tasks, examples, ...) each.
            query_data: (tasks, examples, ...).
            num_inner_steps: The most steps, >= 0.

        Returns:
            (tasks, num_inner_steps + 1, examples, ...); where steps diverge, they are not finite.
        """
        check_set("support_sets", support_sets, tasks=True)
        steps = self._check_steps(num_inner_steps)

        def outputs(x: Tensor, y: Tensor, query: Tensor) -> Tensor:
            weights, found = self.shared_weights(), []
            for step in range(steps + 1):
                found.append(functional_call(self.model, weights, (query,)))
                if step < steps:
                    weights = self._step(weights, self._gradient(weights, x, y)[0])
            return torch.stack(found)

        with torch.no_grad():
            return over_tasks(outputs)(*support_sets, query_data)

    def _descend(self, support_set: Pair, steps: int) -> tuple[Weights, Tensor]:
        """The weights after the steps, and the losses before each."""
        weights, losses = self.shared_weights(), []
        for _ in range(steps):
            gradients, loss = self._gradient(weights, *support_set)
            losses.append(loss.detach())
            weights = self._step(weights, gradients)
        return weights, torch.stack(losses) if losses else torch.zeros(0)

    def _gradient(self, weights: Weights, x: Tensor, y: Tensor) -> tuple[Weights, Tensor]:
        """The gradient of the loss on a support set, and the loss."""
        differentiate = grad_and_value(lambda own: self.loss(functional_call(self.model, own, (x,)), y))
        if not self.first_order:
            with sdpa_kernel(SDPBackend.MATH):  # torch's faster kernels of attention have no second derivative
                return differentiate(weights)
        with torch.no_grad():  # as far as the meta-gradient goes: what grad itself needs is recorded all the same
            return differentiate({name: weight.detach() for name, weight in weights.items()})

    def _step(self, weights: Weights, gradients: Weights) -> Weights:
        return {name: weight - self.lr * gradients[name] for name, weight in weights.items()}

    def _check_steps(self, num_inner_steps: int) -> int:
        return check_integer("num_inner_steps", num_inner_steps, 0)


class QueryLoop(InnerLoop):
    """An inner loop whose shared weights are judged by what the steps lead to on examples that they did not see."""

    def meta_update(self, support_set: Pair, query_set: Pair, num_inner_steps: int = 5) -> Tensor:
        """The loss on a task's query set after steps on its support set.

        ``backward()`` of it gives the meta-gradient; an optimizer over ``parameters()`` then makes the update.

        Args:
            support_set: (data, labels), (examples, ...) each.
            query_set: Likewise, of the same task.
            num_inner_steps: Steps on the whole support set, >= 0.

        Raises:
            ValueError: A set is empty or has not one label per example, or classes of the query set are not in the
                support set.
            RuntimeError: The loss on the support set is no longer finite.
        """
        for name, pair in (("support_set", support_set), ("query_set", query_set)):
            check_set(name, pair)
        check_known_classes(support_set[1], query_set[1])
        loss, losses = self._query_loss(self._check_steps(num_inner_steps), *support_set, *query_set)
        check_losses(losses, self.lr)
        return loss

    def meta_batch(self, support_sets: Pair, query_sets: Pair, num_inner_steps: int = 5) -> Tensor:
        """The mean of :meth:`meta_update` over tasks of equal sizes, all at once.

        Args:
            support_sets: (data, labels), (tasks, examples, ...) each.
            query_sets: Likewise.
            num_inner_steps: Steps on each whole support set, >= 0.

        Raises:
            ValueError: As for :meth:`meta_update`, or the numbers of tasks differ.
            RuntimeError: As for :meth:`meta_update`.
        """
        for name, pair in (("support_sets", support_sets), ("query_sets", query_sets)):
            check_set(name, pair, tasks=True)
        if len(support_sets[0]) != len(query_sets[0]):
            raise ValueError(
                f"query_sets must have as many tasks as support_sets, {len(support_sets[0])}, got {len(query_sets[0])}"
            )
        for own_labels, query_labels in zip(support_sets[1], query_sets[1], strict=True):
            check_known_classes(own_labels, query_labels)
        steps = self._check_steps(num_inner_steps)
        of_tasks = over_tasks(lambda *sets: self._query_loss(steps, *sets))
        loss, losses = of_tasks(*support_sets, *query_sets)
        check_losses(losses, self.lr)
        return loss.mean()

    def _query_loss(self, steps: int, x: Tensor, y: Tensor, query: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        weights, losses = self._descend((x, y), steps)
        return self.loss(functional_call(self.model, weights, (query,)), labels), losses


def over_tasks(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one task, over the first axis of tensors; dropout differs from task to task."""
    return vmap(function, randomness="different")
