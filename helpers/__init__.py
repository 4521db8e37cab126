"""What the notebooks share. Not installed: the notebooks' first cell puts the repository's root on the path.

data         data, cifar10, tiny_imagenet, sample; images and photos read folders of people's own pictures
networks     models, vgg16, resnet, mobilenet, normalization; source_weights and pretraining make starts
training     training, transfer, frozen (features), batches, optimizers, checkpoint, predictions, devices
evidence     runs, checks, evaluation, calibration, comparison, duplicates, latency, pixel_statistics
told         report, tour_page, model_card, literature (others' results), plots and plots_*
models kept  model_files (those in model/), release (how the published one is judged), inference, classifier
the rest     cifar10_png (CIFAR-10 as a folder of pictures), png_strips, files, download, streams
"""
