"""What the notebooks share. Not installed: the notebooks' first cell puts the repository's root on the path.

data         data, cifar10, tiny_imagenet, sample; images and photos read folders of people's own pictures
networks     models, vgg16, resnet, mobilenet, normalization; source_weights and pretraining make starts
training     training, transfer, frozen (features), batches, optimizers, checkpoint, predictions, devices
evidence     runs, evaluation, calibration, comparison, duplicates, latency, pixels (statistics of them)
told         report, model_card, published (others' results), plots and plots_*
model files  released (the files in model/), release (how the published one is judged), inference, classifier
the rest     pictures (CIFAR-10 as PNG files), png_strips, download, streams
"""
