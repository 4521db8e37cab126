"""The order and the changes in which training images come, functions of seed and epoch alone."""

import keras
import numpy as np
from keras import layers, ops


def spread(split, count):
    """`count` of a split's images, evenly spread; all of them where there are no more."""
    known = len(split.labels)
    chosen = np.arange(min(count, known)) * known // min(count, known)
    return type(split)(*(part[chosen] for part in split))


def one_hot(labels, classes):
    return np.eye(classes, dtype="float32")[labels]


class Batches(keras.utils.PyDataset):
    """Batches whose order and flips are functions of (seed, epoch) alone; a partial last one is left out."""

    def __init__(self, split, classes, batch_size, seed, flips):
        super().__init__()
        self.images, self.targets = split.images, one_hot(split.labels, classes)
        self.batch_size, self.seed, self.flips = min(batch_size, len(self.images)), seed, flips
        self.go_to(0)

    def __len__(self):
        return len(self.images) // self.batch_size

    def go_to(self, epoch):
        self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.images))
        self.mirrored = np.zeros(len(self.images), bool)
        if self.flips == "random":
            self.mirrored = np.random.default_rng([self.seed, epoch, 1]).random(len(self.images)) < 0.5
        elif self.flips == "alternating":
            # Each image's first side is drawn once; then the sides alternate, so that two epochs show both.
            drawn = np.random.default_rng([self.seed, 1]).random(len(self.images)) < 0.5
            self.mirrored = drawn ^ (epoch % 2 == 1)

    def __getitem__(self, index):
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        images, mirrored = self.images[chosen], self.mirrored[chosen]
        if mirrored.any():  # never so with features, which have no sides
            images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        return images, self.targets[chosen]


class EpochClock(keras.callbacks.Callback):
    """Sets data order and random layers to (seed, epoch): a resumed run goes on as if never stopped."""

    def __init__(self, batches, seed):
        super().__init__()
        self.batches, self.seed = batches, seed

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.go_to(epoch)
        states = [v for v in self.model.non_trainable_variables if v.path.endswith("seed_generator_state")]
        for number, state in enumerate(states):
            state.assign(np.random.default_rng([self.seed, epoch, 2, number]).integers(2**31, size=2))


class RandomShift(layers.Layer):
    """Move each image by up to `reach` whole pixels, the border reflected; in training only."""

    def __init__(self, reach):
        super().__init__(dtype="float32")
        self.reach = reach
        self.seed_generator = keras.random.SeedGenerator(0)

    def call(self, images, training=False):
        if not training:
            return images
        count, (height, width) = ops.shape(images)[0], images.shape[1:3]
        moved = keras.random.randint((2, count, 1), 0, 2 * self.reach + 1, seed=self.seed_generator)
        margin = (self.reach, self.reach)
        padded = ops.pad(images, [(0, 0), margin, margin, (0, 0)], mode="reflect")
        rows, columns = moved[0] + ops.arange(height), moved[1] + ops.arange(width)
        padded = ops.take_along_axis(padded, rows[:, :, None, None], axis=1)
        return ops.take_along_axis(padded, columns[:, None, :, None], axis=2)
