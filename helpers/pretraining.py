"""Training a network on a source task, where ImageNet's own weights can't be had.

run = pretrain("pretrain-vgg16", build, settings, source=source)
keras_file(run)    # what keras.applications loads
"""

import keras

from helpers import batches, model_files, models, optimizers, resnet, runs, source_weights, training, vgg16

MOMENTUM = 0.9  # of ResNet50's normalisation: Keras's own 0.99 follows too slowly for runs as short as these


def pretrain(experiment, build, settings, *, source, **options):
    """Train what build() makes from random weights, by these settings; returns the run."""
    run = runs.start(experiment, source=source, parameters=settings, **options)

    def network():
        with models.precision(settings["precision"]):
            return build()

    def muon(batches):
        rates = {part: settings[f"{part}_rate"] for part in ("kernel", "bias", "head")}
        return optimizers.Muon(len(batches) * settings["epochs"], 0, batches.batch_size, rates)

    training.train(run, source, network, muon, augmentation=[batches.RandomShift(settings["shift"])])
    return run


def resnet50(classes, resolution, first_stride=2):
    """ResNet50 with random weights; pictures are scaled to the resolution inside."""
    network = resnet.pretrained("scratch", classes, resized_to=resolution, first_stride=first_stride)
    return models.thaw(network, norms=True, momentum=MOMENTUM)


def keras_file(run):
    """The trained convolutions as keras.applications loads them, in half precision; the run has its model."""
    path = run.folder / f"{run.experiment.removeprefix('pretrain-')}.weights.h5"
    with run.alone():
        if not path.is_file():
            trained = keras.models.load_model(run.model)
            if run.parameters["network"] == "resnet50":
                model_files.save(source_weights.as_application(trained, "ResNet50"), path)
            else:
                model_files.save(source_weights.as_application(vgg16.fold(trained)), path)
    return path
