import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.data import digits_batches
from advanced_optimizers.experiments.data.datasets import Batches, corrupt_labels, load, split_validation, take_fraction


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def make_images(count=23, height=20, width=18, channels=3):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, height, width, channels), generator=generator, dtype=torch.uint8)
    return images, torch.arange(count) % 10


def make_batches(images, labels, batch_size=8, seed=0, **options):
    channels = images.shape[-1]
    mean, std = (0.5, 0.4, 0.3)[:channels], (0.2, 0.25, 0.3)[:channels]
    return Batches(images, labels, mean, std, batch_size, generator=torch.Generator().manual_seed(seed), **options)


def rows(images, labels):
    """Labeled images as a sorted list, so that they can be compared whatever their order."""
    return sorted(zip(images.flatten(1).tolist(), labels.tolist(), strict=True))


# Datasets


def test_digits_are_scikit_learns_digits(digits):
    from sklearn.datasets import load_digits

    assert digits.images.shape == (1438, 8, 8, 1)
    assert digits.test_images.shape == (359, 8, 8, 1)
    assert digits.image_shape == (1, 8, 8)
    assert digits.images.dtype == digits.test_images.dtype == torch.uint8
    assert digits.labels.dtype == digits.test_labels.dtype == torch.int64
    pixels = torch.cat([digits.images, digits.test_images])
    assert (pixels.min(), pixels.max()) == (0, 255)
    gray = (pixels * (16 / 255)).round().long()
    bunch = load_digits()
    expected = rows(torch.from_numpy(bunch.data).long(), torch.from_numpy(bunch.target))
    assert rows(gray, torch.cat([digits.labels, digits.test_labels])) == expected


def test_digits_test_set_is_a_fifth_of_every_class(digits):
    train, test = digits.labels.bincount(), digits.test_labels.bincount()
    assert ((test - (train + test) / 5).abs() < 1).all()


def test_digits_never_change(digits):
    data._load.cache_clear()
    again = load("digits")
    assert again is not digits
    assert torch.equal(again.images, digits.images)
    # Recorded results name this checksum: if it changes, they are results on different data.
    assert again.checksum == "af8ff64c99c3012289ada5e5a6ad75c49de6136049ab04514d0291d70d1e50d6"


def test_load_reads_a_dataset_once_per_process():
    assert load("digits") is load("digits")


def test_statistics_and_checksum_are_those_of_the_tensors(digits):
    pixels = digits.images.double() / 255
    assert digits.mean == pytest.approx([pixels.mean().item()], rel=1e-12)
    assert digits.std == pytest.approx([pixels.std(correction=0).item()], rel=1e-12)
    parts = (digits.images, digits.labels, digits.test_images, digits.test_labels)
    assert digits.checksum == hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()


def test_statistics_are_per_channel():
    images, _ = make_images(count=2500, height=5, width=4)
    images[..., 1] //= 2
    mean, std = data._channel_statistics(images)
    pixels = images.double().flatten(0, 2) / 255
    assert mean == pytest.approx(pixels.mean(0).tolist(), rel=1e-12)
    assert std == pytest.approx(pixels.std(0, correction=0).tolist(), rel=1e-12)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"'cifar-10'; did you mean cifar10 or"):
        load("cifar-10")
    with pytest.raises(ValueError, match=r"'zzz'; did you mean mnist or fashion_mnist or"):
        load("zzz")


def test_torchs_global_random_state_is_left_alone(digits):
    before = torch.get_rng_state()
    data._load.cache_clear()
    fresh = split_validation(load("digits"))
    corrupt_labels(fresh.labels, 0.5, 10, seed=0)
    list(make_batches(fresh.images, fresh.labels, shuffle=True, augment=True))
    assert torch.equal(torch.get_rng_state(), before)


# Parts of a dataset


def test_validation_is_a_fixed_disjoint_balanced_part_of_the_training_images(digits):
    split = split_validation(digits, 0.1)
    assert len(split.test_images) == 144
    together = rows(torch.cat([split.images, split.test_images]), torch.cat([split.labels, split.test_labels]))
    assert together == rows(digits.images, digits.labels)
    assert ((split.test_labels.bincount() - digits.labels.bincount() / 10).abs() <= 1).all()
    assert (split.name, split.mean, split.std) == (digits.name, digits.mean, digits.std)
    assert split.checksum == split_validation(digits).checksum != digits.checksum


def test_validation_shares_no_position_with_what_is_left(digits):
    # Images can repeat. Positions, which the labels hold here, cannot.
    numbered = replace(digits, labels=torch.arange(len(digits.labels)))
    split = split_validation(numbered, 0.25)
    assert not set(split.labels.tolist()) & set(split.test_labels.tolist())
    assert len(split.labels) + len(split.test_labels) == len(digits.labels)


def test_validation_leaves_an_image_on_each_side(digits):
    tiny = replace(digits, images=digits.images[:3], labels=digits.labels[:3])
    assert [len(split_validation(tiny, f).labels) for f in (0.001, 0.999)] == [2, 1]


def test_smaller_fractions_lie_inside_larger_ones(digits):
    numbered = replace(digits, images=torch.arange(len(digits.labels)).view(-1, 1, 1, 1))
    parts = [set(take_fraction(numbered, f).images.flatten().tolist()) for f in (0.01, 0.1, 0.5, 1.0)]
    assert [len(part) for part in parts] == [14, 144, 719, 1438]
    assert parts[0] < parts[1] < parts[2] < parts[3]


def test_a_fraction_is_balanced_and_keeps_the_test_set(digits):
    part = take_fraction(digits, 0.1)
    assert ((part.labels.bincount() - digits.labels.bincount() / 10).abs() <= 1).all()
    assert torch.equal(part.test_images, digits.test_images)
    assert take_fraction(digits, 1.0).checksum == digits.checksum


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, float("nan")])
@pytest.mark.parametrize("function", [split_validation, take_fraction])
def test_bad_fraction_is_named(digits, function, fraction):
    with pytest.raises(ValueError, match=f"fraction.*{fraction}"):
        function(digits, fraction)


def test_validation_cannot_be_everything(digits):
    with pytest.raises(ValueError, match=r"fraction.*1\.0"):
        split_validation(digits, 1.0)


def test_parts_never_change(digits):
    # As above: recorded results were measured on these images.
    validation = "f7281b46251215f06308b23e994d42005eb9b6505d01770a6f965760a009a6ea"
    tenth = "4da21ad825735af63155b4bbeac30b89e384c9dea973ac83c58d6b209b3c50e4"
    assert (split_validation(digits).checksum, take_fraction(digits, 0.1).checksum) == (validation, tenth)


# Label noise


@pytest.mark.parametrize(("fraction", "count"), [(0.0, 0), (0.2, 333), (0.4, 667), (0.999, 1665)])
def test_exactly_the_requested_number_of_labels_changes(fraction, count):
    labels = torch.arange(1667) % 10
    noisy = corrupt_labels(labels, fraction, 10, seed=0)
    assert (noisy != labels).sum() == count
    assert noisy.min() >= 0
    assert noisy.max() <= 9
    assert torch.equal(labels, torch.arange(1667) % 10)


def test_noisy_labels_are_uniform_over_the_other_classes():
    labels = torch.arange(90_000) % 10
    noisy = corrupt_labels(labels, 0.5, 10, seed=1)
    pairs = torch.zeros(10, 10).index_put_((labels, noisy), torch.tensor(1.0), accumulate=True)
    wrong = pairs[~torch.eye(10, dtype=torch.bool)]
    # 45,000 labels over 90 pairs: 500 each, plus or minus five standard deviations.
    assert (wrong - 500).abs().max() < 5 * 500**0.5


def test_two_classes_swap():
    labels = torch.tensor([0, 1] * 50)
    noisy = corrupt_labels(labels, 0.9, 2, seed=0)
    assert (noisy == 1 - labels).sum() == 90


def test_noise_depends_on_the_seed_alone():
    labels = torch.arange(1000) % 10
    assert torch.equal(corrupt_labels(labels, 0.3, 10, seed=4), corrupt_labels(labels, 0.3, 10, seed=4))
    assert not torch.equal(corrupt_labels(labels, 0.3, 10, seed=4), corrupt_labels(labels, 0.3, 10, seed=5))


def test_noise_does_not_come_first_in_an_epoch_shuffled_with_the_same_seed():
    images, labels = make_images(count=2000, height=4, width=4)
    noisy = corrupt_labels(labels, 0.2, 10, seed=0)
    first = next(iter(make_batches(images, noisy, batch_size=400, seed=0, shuffle=True)))
    share = (first.labels != labels[first.indices]).float().mean()
    assert 0.1 < share < 0.3


@pytest.mark.parametrize(
    ("fraction", "num_classes", "message"),
    [(1.0, 10, r"fraction.*1\.0"), (-0.1, 10, r"fraction.*-0\.1"), (0.1, 1, "num_classes.*1")],
)
def test_bad_noise_is_named(fraction, num_classes, message):
    with pytest.raises(ValueError, match=message):
        corrupt_labels(torch.zeros(10, dtype=torch.int64), fraction, num_classes, seed=0)


# Batches


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("augment", [False, True])
def test_an_epoch_holds_every_image_once_with_its_label(shuffle, augment):
    images, labels = make_images()
    batches = make_batches(images, labels, shuffle=shuffle, augment=augment)
    epoch = list(batches)
    assert [len(batch.labels) for batch in epoch] == [8, 8, 7]
    assert len(batches) == 3
    indices = torch.cat([batch.indices for batch in epoch])
    assert sorted(indices.tolist()) == list(range(23))
    assert (indices.tolist() == list(range(23))) is not shuffle
    assert torch.equal(torch.cat([batch.labels for batch in epoch]), labels[indices])


def test_each_epoch_is_shuffled_anew():
    batches = make_batches(*make_images(), shuffle=True)
    first, second = ([index for batch in batches for index in batch.indices.tolist()] for _ in range(2))
    assert first != second


def test_drop_last_leaves_out_the_batch_that_is_not_full():
    batches = make_batches(*make_images(), shuffle=True, drop_last=True)
    assert len(batches) == 2
    assert [len(batch.labels) for batch in batches] == [8, 8]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_normalized_and_channels_last(channels):
    images, labels = make_images(channels=channels)
    batches = make_batches(images, labels, batch_size=23)
    (batch,) = batches
    mean = torch.tensor([0.5, 0.4, 0.3])[:channels].double().view(-1, 1, 1)
    std = torch.tensor([0.2, 0.25, 0.3])[:channels].double().view(-1, 1, 1)
    expected = (images.permute(0, 3, 1, 2).double() / 255 - mean) / std
    assert batch.images.dtype == torch.float32
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(batch.images.double(), expected, rtol=1e-5, atol=1e-6)


def test_training_images_have_mean_zero_and_deviation_one(digits):
    (batch,) = Batches(digits.images, digits.labels, digits.mean, digits.std, len(digits.labels))
    assert batch.images.mean().abs() < 1e-5
    assert (batch.images.std(correction=0) - 1).abs() < 1e-5


def augmented_one_by_one(image, top, left, mirrored, padding):
    height, width, _ = image.shape
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    crop = padded[top : top + height, left : left + width]
    return crop[:, ::-1] if mirrored else crop


@pytest.mark.parametrize(
    ("height", "width", "channels", "padding"), [(20, 18, 3, 4), (16, 16, 1, 4), (8, 8, 1, 1), (32, 15, 3, 1)]
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_augmentation_equals_cropping_and_mirroring_one_by_one(height, width, channels, padding, shuffle):
    images, labels = make_images(count=70, height=height, width=width, channels=channels)
    batches = make_batches(images, labels, batch_size=32, seed=6, shuffle=shuffle, augment=True)
    plain = make_batches(images, labels)
    generator = torch.Generator().manual_seed(6)
    seen = set()
    for _ in range(2):
        order = torch.randperm(70, generator=generator) if shuffle else torch.arange(70)
        for batch, indices in zip(batches, order.split(32), strict=True):
            tops, lefts = torch.randint(2 * padding + 1, (2, len(indices)), generator=generator).tolist()
            mirrored = torch.randint(2, (len(indices),), generator=generator).tolist()
            crops = [
                augmented_one_by_one(images[index].numpy(), *draws, padding)
                for index, *draws in zip(indices.tolist(), tops, lefts, mirrored, strict=True)
            ]
            expected = plain._normalized(torch.from_numpy(np.stack(crops)))
            assert torch.equal(batch.indices, indices)
            torch.testing.assert_close(batch.images, expected, rtol=0, atol=0)
            seen.update(zip(tops, lefts, mirrored, strict=True))
    assert {top for top, _, _ in seen} == {left for _, left, _ in seen} == set(range(2 * padding + 1))


def test_augmentation_leaves_the_dataset_alone():
    images, labels = make_images()
    before = images.clone()
    list(make_batches(images, labels, shuffle=True, augment=True))
    list(make_batches(images, labels))
    assert torch.equal(images, before)


def test_a_restored_generator_continues_with_the_same_batches():
    images, labels = make_images()
    batches = make_batches(images, labels, shuffle=True, augment=True)
    list(batches)
    state = batches.generator.get_state()
    expected = list(batches)
    resumed = make_batches(images, labels, seed=99, shuffle=True, augment=True)
    resumed.generator.set_state(state)
    for batch, other in zip(resumed, expected, strict=True):
        assert torch.equal(batch.indices, other.indices)
        assert torch.equal(batch.images, other.images)


@pytest.mark.gpu
def test_batches_on_an_accelerator_equal_those_on_the_cpu():
    images, labels = make_images()
    device = torch.accelerator.current_accelerator()
    for here, there in zip(
        make_batches(images, labels, shuffle=True, augment=True),
        make_batches(images, labels, shuffle=True, augment=True, device=device),
        strict=True,
    ):
        assert there.images.device.type == there.indices.device.type == device.type
        for ours, theirs in zip(here, there, strict=True):
            assert torch.equal(ours, theirs.cpu())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size.*0"),
        ({"batch_size": 24, "drop_last": True}, "batch_size.*23 images.*24"),
        ({"shuffle": True}, "generator.*None"),
        ({"augment": True}, "generator.*None"),
        ({"images": torch.zeros(23, 4, 4, 3)}, r"images.*uint8.*torch\.float32"),
        ({"images": torch.zeros(23, 4, 4, dtype=torch.uint8)}, r"images.*\(23, 4, 4\)"),
        ({"images": torch.zeros(0, 4, 4, 3, dtype=torch.uint8)}, r"images.*\(0, 4, 4, 3\)"),
        ({"labels": torch.zeros(22, dtype=torch.int64)}, r"labels.*\(23,\).*\(22,\)"),
        ({"labels": torch.zeros(23)}, r"labels.*int64.*torch\.float32"),
        ({"mean": (0.5,)}, r"mean.*3 channels.*\(0\.5,\)"),
        ({"std": (0.5, 0.5)}, r"std.*3 channels.*\(0\.5, 0\.5\)"),
        ({"std": (0.5, 0.0, 0.5)}, r"std.*0\.0"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    images, labels = make_images()
    arguments = {"images": images, "labels": labels, "mean": (0.5,) * 3, "std": (0.2,) * 3, "batch_size": 8}
    with pytest.raises(ValueError, match=message):
        Batches(**arguments | changes)


def test_batch_size_is_an_integer():
    with pytest.raises(TypeError, match=r"batch_size.*8\.0"):
        make_batches(*make_images(), batch_size=8.0)


def test_digits_batches_are_all_digits_normalized_and_in_an_order_that_the_seed_gives(digits):
    train, test = digits_batches(batch_size=64, seed=3)
    epoch = list(train)
    assert [len(batch.labels) for batch in epoch] == [64] * 22 + [30]
    indices = torch.cat([batch.indices for batch in epoch])
    assert sorted(indices.tolist()) == list(range(len(digits.labels)))
    assert torch.equal(torch.cat([batch.labels for batch in epoch]), digits.labels[indices])
    images = torch.cat([batch.images for batch in epoch])
    assert images.mean().abs() < 1e-3
    assert (images.std() - 1).abs() < 1e-2
    assert torch.equal(test.labels, digits.test_labels)
    assert test.images.shape == (len(digits.test_labels), 1, 8, 8)
    again, other = digits_batches(seed=3)[0], digits_batches(seed=4)[0]
    assert torch.equal(torch.cat([batch.indices for batch in again]), indices)
    assert not torch.equal(torch.cat([batch.indices for batch in other]), indices)


def test_digits_batches_leave_torchs_global_random_state_alone():
    before = torch.get_rng_state()
    next(iter(digits_batches()[0]))
    assert torch.equal(torch.get_rng_state(), before)
