"""What proves each cell of the README's table "What works with what": row by row, the tests of its six columns.

A test is named as pytest does, ``file::test``, where ``file`` is one of this folder without ``test_`` and ``.py``. A
cell that says "untested", or "no" with the reason, needs none.
"""

from __future__ import annotations

COLUMNS = (
    "`FEROptimizer`, `GradientCorrectionOptimizer`",
    "`ConvolutionalSGD`, `LocalLossConvSGD`, `ConvolutionalSGDv2`",
    "`FlippingErrorReduction`",
    "`LocalizedOptimizer`",
    "`SigPropOptimizer`",
    "`MuSGD`, `MuAdam`, `MuAdamW`",
)

_CLOSURE = "contract_training::test_closure_is_called_once_with_gradients_enabled_and_its_loss_returned"
_RESUMES = "contract::test_resumes_bit_for_bit_in_a_fresh_object"
_ACCUMULATED = "contract_training::test_accumulated_gradients_equal_one_large_batch"
_ANY_OPTIMIZER = "training_loops::test_the_flipping_loss_works_with_any_optimizer_schedule_and_groups"
_COMPILED = "compile::test_a_compiled_model_trains_as_an_ordinary_one"
_COMPILED_STEP = "compile::test_a_compiled_step_is_the_step"
_PREPARED = "accelerate::test_a_prepared_optimizer_agrees_with_a_plain_loop accelerate::test_a_resumed_run_is_the_same"
_LIGHTNING = "lightning::test_the_trainer_agrees_with_a_plain_loop lightning::test_a_resumed_run_is_the_same"
_TRAINER = (
    "transformers_trainer::test_the_trainer_agrees_with_a_plain_loop "
    "transformers_trainer::test_a_resumed_run_is_the_same"
)
_OPACUS = "opacus::test_without_noise_and_clipping_it_is_ordinary_training opacus::test_a_resumed_run_is_the_same"
_DDP = "distributed::test_ddp_equals_one_process_with_the_whole_batch"
_ZERO = (
    "distributed::test_zero_equals_one_process_with_the_whole_batch distributed::test_zero_resumes_from_a_checkpoint"
)

# Row -> the tests of its cells, in the order of COLUMNS.
TESTS: dict[str, tuple[str, str, str, str, str, str]] = {
    "Closures": (
        _CLOSURE,
        "convolutional_sgd::test_both_kinds_of_closures_give_the_same_step "
        "convolutional_sgd::test_equal_losses_count_as_not_fallen_and_nan_as_none",
        _ANY_OPTIMIZER,
        _CLOSURE,
        "forward_signal_optimizer::test_closure_is_called_once_with_gradients_enabled_and_its_loss_returned",
        "training_loops::test_mup_s_optimizers_call_a_closure_once",
    ),
    "Learning-rate schedulers, parameter groups": (
        "contract::test_schedulers_control_it contract::test_two_groups_are_two_optimizers",
        "contract::test_schedulers_control_it contract::test_two_groups_are_two_optimizers "
        "convolutional_sgd::test_each_group_has_its_kernel",
        _ANY_OPTIMIZER,
        "contract::test_schedulers_control_it",
        "forward_signal_optimizer::test_one_group_per_layer_and_one_for_the_signal "
        "forward_signal_optimizer::test_schedulers_drive_all_layers_without_a_warning",
        "zero_shot_transfer_survival::test_schedules_that_multiply_are_fine "
        "zero_shot_transfer_survival::test_schedule_with_absolute_learning_rates_is_refused_at_the_next_step",
    ),
    "`add_param_group`": (
        "contract::test_group_added_during_a_run_acts_from_then_on",
        "contract::test_group_added_during_a_run_acts_from_then_on",
        _ANY_OPTIMIZER,
        "localized_models::test_parameters_added_later_learn_by_gradient",
        "forward_signal_input::test_groups_cannot_be_added",
        "zero_shot_transfer_survival::test_group_that_is_added_later_is_refused",
    ),
    "Checkpoints, also with `weights_only=True`": (
        _RESUMES,
        f"{_RESUMES} convolutional_sgd::test_a_followed_kernel_resumes_bit_for_bit",
        "flipping_error::test_state_dict_in_a_fresh_module_yields_the_same_loss",
        "localized_checkpoints::test_resumes_bit_for_bit_while_the_transition_moves",
        "forward_signal_optimizer::test_resumes_bit_for_bit_in_a_fresh_object",
        "zero_shot_transfer_survival::test_checkpoint_continues_bit_for_bit_in_a_fresh_model",
    ),
    "`torch.distributed.checkpoint.state_dict`": (
        "wrapped_checkpoints::test_torch_s_distributed_checkpoints_keep_everything",
        "wrapped_checkpoints::test_torch_s_distributed_checkpoints_keep_everything",
        "",
        "wrapped_checkpoints::test_torch_s_distributed_checkpoint_of_a_localized_optimizer_is_refused_by_name",
        "wrapped_checkpoints::test_torch_s_distributed_checkpoint_of_signal_propagation_is_refused_by_name",
        "wrapped_checkpoints::test_torch_s_distributed_checkpoints_keep_everything_of_mup_s_optimizers",
    ),
    "Autocast, bfloat16 and float64 parameters": (
        "contract_training::test_half_precision_state_equals_the_reference contract::test_equals_its_reference "
        "lightning::test_bfloat16",
        "contract_training::test_half_precision_state_equals_the_reference contract::test_equals_its_reference "
        "lightning::test_bfloat16",
        "flipping_error::test_logits_of_any_precision "
        "flipping_error::test_double_precision_logits_keep_their_precision",
        "localized_models::test_autocast_in_channels_last_follows_float32 "
        "localized_learning::test_training_equals_the_reference lightning::test_bfloat16",
        "forward_signal_optimizer::test_both_ways_give_the_same_bits_in_bfloat16_autocast "
        "forward_signal::test_learn_equals_the_slow_twin lightning::test_bfloat16",
        "training_loops::test_mup_s_optimizers_in_every_precision",
    ),
    "Gradient accumulation": (
        _ACCUMULATED,
        _ACCUMULATED,
        "training_loops::test_the_flipping_loss_with_accumulated_gradients",
        _ACCUMULATED,
        _ACCUMULATED,
        "training_loops::test_mup_s_optimizers_with_accumulated_gradients",
    ),
    "`torch.compile`": (
        f"{_COMPILED} contract_training::test_compiled_step_equals_eager",
        f"{_COMPILED} contract_training::test_compiled_step_equals_eager",
        "compile::test_a_compiled_flipping_loss_is_the_loss",
        f"{_COMPILED} localized_models::test_compiled_model_equals_eager {_COMPILED_STEP}",
        f"compile::test_compiled_local_losses_train_a_network_as_ordinary_ones {_COMPILED_STEP}",
        f"{_COMPILED} zero_shot_transfer_survival::test_compiled_models_know_their_base_shapes {_COMPILED_STEP}",
    ),
    "Sparse or complex gradients": (
        "contract::test_refuses_gradients_it_cannot_handle",
        "contract::test_refuses_gradients_it_cannot_handle",
        "training_loops::test_the_flipping_loss_passes_sparse_gradients_on",
        "training_loops::test_localized_learning_refuses_sparse_and_complex_gradients",
        "training_loops::test_signal_propagation_leaves_sparse_and_complex_gradients_to_its_base_optimizer",
        "training_loops::test_mup_s_sgd_takes_sparse_gradients_as_torch_s_does",
    ),
    "Optimizers that evaluate the loss several times (L-BFGS)": (
        "contract::test_refuses_bad_values",
        "contract::test_refuses_bad_values",
        "training_loops::test_the_flipping_loss_remembers_at_every_evaluation_of_lbfgs",
        "contract::test_refuses_bad_values",
        "contract::test_refuses_bad_values",
        "training_loops::test_mup_s_optimizers_refuse_lbfgs",
    ),
    "`DistributedDataParallel`": (
        f"{_DDP} distributed::test_the_state_is_the_same_in_both_processes "
        "distributed::test_corrections_of_hidden_states_keep_the_parameters_equal_but_learn_from_their_own_part",
        f"{_DDP} distributed::test_the_state_is_the_same_in_both_processes "
        "distributed::test_a_kernel_that_follows_the_loss_follows_the_mean_over_the_processes",
        "flipping_processes::test_two_processes_with_a_shuffling_sampler_equal_one",
        "localized_processes::test_two_processes_equal_one_with_the_whole_batch "
        "localized_processes::test_a_wrapper_that_waits_for_frozen_blocks_is_refused",
        "distributed_sigprop::test_two_processes_equal_one_with_the_whole_batch "
        "distributed_sigprop::test_losses_over_the_batch distributed_sigprop::test_norms_over_the_batch",
        f"{_DDP} zero_shot_transfer_survival::test_wrapped_models_know_their_base_shapes",
    ),
    "`ZeroRedundancyOptimizer`": (
        _ZERO,
        _ZERO,
        "",
        "",
        "",
        f"{_ZERO} distributed::test_zero_cannot_build_mup_s_optimizer",
    ),
    "FSDP2 (`fully_shard`)": (
        "distributed::test_fsdp2_equals_one_process_with_the_whole_batch "
        "distributed::test_fsdp2_goes_on_from_its_state",
        "distributed::test_fsdp2_equals_one_process_with_the_whole_batch "
        "distributed::test_fsdp2_is_refused_by_name_and_nothing_changes",
        "",
        "localized_processes::test_sharded_parameters_are_refused",
        "distributed_sigprop::test_sharded_networks",
        "distributed::test_fsdp2_equals_one_process_with_the_whole_batch",
    ),
    "accelerate": (
        f"{_PREPARED} accelerate::test_bfloat16",
        _PREPARED,
        "accelerate::test_the_flipping_loss_is_prepared_with_the_model_and_saved",
        f"{_PREPARED} accelerate::test_the_wrapper_hides_what_only_our_optimizers_have",
        _PREPARED,
        _PREPARED,
    ),
    "Lightning": (
        _LIGHTNING,
        _LIGHTNING,
        "lightning::test_the_flipping_loss_hears_each_epoch_and_remembers lightning::test_a_resumed_run_is_the_same",
        f"{_LIGHTNING} lightning::test_the_local_learner_hears_each_epochs_loss",
        _LIGHTNING,
        _LIGHTNING,
    ),
    "Hugging Face's Trainer": (
        f"{_TRAINER} transformers_trainer::test_optimizer_cls_and_kwargs",
        _TRAINER,
        _TRAINER,
        f"{_TRAINER} transformers_trainer::test_the_local_learner_hears_each_epochs_loss",
        "",
        _TRAINER,
    ),
    "timm": (
        "timm::test_it_is_our_class_with_our_arguments timm::test_a_checkpoint_of_timm_resumes_bit_for_bit "
        "timm::test_weight_decay_spares_biases_and_norms",
        "timm::test_it_is_our_class_with_our_arguments timm::test_a_checkpoint_of_timm_resumes_bit_for_bit "
        "timm::test_weight_decay_spares_biases_and_norms",
        "timm::test_the_flipping_loss_with_a_model_of_timm",
        "timm::test_local_learning_takes_a_model_of_timm_itself",
        "",
        "",
    ),
    "Opacus": (
        f"{_OPACUS} opacus::test_it_steps_with_the_private_gradients "
        "opacus::test_the_correction_of_hidden_states_is_refused_by_name",
        f"{_OPACUS} opacus::test_it_steps_with_the_private_gradients "
        "convolutional_sgd::test_a_private_model_s_loss_is_not_followed",
        "opacus::test_the_flipping_loss_learns_from_private_gradients",
        "opacus::test_localized_learning_is_refused_by_name",
        "opacus::test_signal_propagation_is_refused_by_name",
        f"{_OPACUS} opacus::test_it_steps_with_the_private_gradients",
    ),
}
