"""The published model's card: what it is, what it is worth and where it fails.

Its numbers are those of the evidence, but for two: what others have found of CIFAR-10, and the pairs of
pictures that are the same photograph, which were told by eye.

`make results` writes it beside the model.
"""

import pandas as pd

from helpers import calibration, evaluation, files, model_files, report, runs, tiny_imagenet

CARD = model_files.MODEL.with_suffix(".md")
EXPERIMENT = "vgg16-released"


def text(record, facts, trained, pretrained, overlap):
    """The card of a released model: its record, its file's description, the records of what made it, and how
    many test images the source task has seen.
    """
    data = record["data"]
    return f"""# {facts["file"].removesuffix(".keras")}

VGG16, fine-tuned to tell the ten classes of CIFAR-10 apart: {", ".join(facts["classes"])}.
One file of {facts["bytes"] / 1e6:.1f} MB that takes RGB pixels from 0 to 255, of any size; scaling and
preprocessing are inside.

```python
import keras

model = keras.models.load_model("model/{facts["file"]}")  # logits of the ten classes
```

With calibrated probabilities, photographs of every kind and "none of these": `python classify.py photo.jpg`.

## What it is worth

{accuracy_lines(record)}

{class_table(record, facts["classes"])}

{training_line(trained)}
This file is seed {record["seed"]}'s, the notebook's default; it was not picked for its score. Which
other systems of this repository do as well or better is told in notebook `07-comparison`.

## How sure it is

Its logits, averaged over both sides of a picture, are divided by a temperature of
{record["calibration"]["temperature"]:.3f}; then {record["calibration"]["floor"]:.3f} is taken off each
probability, what label smoothing and this temperature leave on every class; what then is less than
{calibration.LEAST} counts as so much, and all are divided by their sum. Both numbers were fitted on
validation images. The expected calibration error on the test images is
{record["test"]["ece"]:.2%} with them and {record["test_uncalibrated"]["ece"]:.2%} without.

## None of the ten

{none_lines(record)}

## What it learned from

- **Source weights:** {source_lines(record, pretrained)}
- **CIFAR-10:** {data["train"]:,} of its 50,000 training images; the other {data["validation"]:,} decided
  whatever had to be decided; the {data["test"]:,} test images were only counted at the end.
- **How:** notebook `04-vgg16-fine-tuning`. Normalisation was folded into the convolutions afterwards and
  numbers stored in half precision; all that is told here is of the stored file.

## What it is for

Examples, teaching, and as something to compare with. It sees 32 x 32 pixels: one thing, in the middle,
filling most of the picture. Not for decisions about people, not for safety, not for telling species: a
"bird" is all that it says of a bird.

## Its limits

About 3 % of CIFAR-10's test images have near-duplicates among its training images ([Barz and Denzler,
2020](https://arxiv.org/abs/1902.00423)), and some labels are wrong: on pictures that are new to it, expect
less than it is worth above. The source weights have seen at least six of the test images:
{overlap["found"]} look like one of their pictures, {overlap["false_alarms_expected"]:.0f} would by chance,
six are the same photograph (notebook `04-vgg16-fine-tuning`). Which images are for validation was drawn once,
for all seeds of training (split seed {data["split_seed"]}). Photographs that are scaled down look different
from CIFAR-10's pictures: how often it is right about ImageNet's is told above, others were not tried.

## Licence

The file is under the repository's licence (LICENSE.txt). CIFAR-10 (Krizhevsky, 2009) and ImageNet's pictures,
which it learned from, are not part of it; they were collected from the web for research, under terms of their
own.
"""


def accuracy_lines(record):
    told = {
        "test, both sides of each picture (as `classify.py` asks)": record["test"],
        "test, one side (as `model.predict` does)": record["test_single_view"],
        "validation, both sides": record["validation"],
    }
    return "\n".join(
        f"- {name}: {evaluation.score_line(score)}; macro F1 {score['macro_f1']:.2%}"
        for name, score in told.items()
    )


def class_table(record, classes):
    table = evaluation.per_class(record["confusion"], classes)
    shares = table[["precision", "recall", "f1"]].map("{:.1%}".format)
    return report.markdown(shares.rename_axis("class").reset_index(), words=("class",))


def training_line(trained):
    result = evaluation.summary(trained)
    accuracy = evaluation.mean_and_deviation(result["mean"], result["std"])
    views = "from both sides of each picture, before the file was made small"
    return f"Over seeds of training (n = {result['n']}): {accuracy} % of the test images ({views})."


def none_lines(record):
    rule = record["none_of_these"]
    tried = pd.DataFrame(rule["tried"]).T
    tried = tried.assign(
        auroc=tried.auroc.map("{:.3f}".format), false_accepts=tried.false_accepts.map("{:.1%}".format)
    )
    tried.columns = ["AUROC", "strangers that pass at 95 %"]
    tried = report.markdown(tried.rename_axis("score").reset_index(), words=("score",))
    kin = rule["kin"]
    layers = " and ".join(f"`{layer}`" for layer in rule["layers"])
    return f"""Asked about {rule["measured_by"]:,} pictures of {len(tiny_imagenet.HELD_OUT)} ImageNet classes
that resemble none of the ten and that nothing was learned from, it should say so. At the threshold that 95 %
of the validation images pass, {rule["true_accepts"]:.1%} of the test images do, and
**{rule["false_accepts"]:.1%} of these strangers as well** (AUROC {rule["auroc"]:.3f}). What is compared with
the threshold is a score of familiarity, the best of these by {rule["chosen_by"]:,} other pictures of those
classes:

{tried}

"learned" is a linear layer on the network's features that was shown {rule["exposed"]:,} pictures of other
ImageNet classes as strangers. The features are the roots of each channel's average over the maps of
{layers}, those of both sides of a picture averaged; the layer's weights, its bias last, stand in the file's
description as little-endian float16, in base64.

ImageNet's own dogs, cats, birds, frogs, cars, vans and lifeboats are no strangers: of {kin["total"]:,}
pictures {rule["kin_accepts"]:.1%} pass, and {kin["correct"] / kin["total"]:.1%} are named rightly, whether
they pass or not. Their classes were among those that the source weights and the score learned from: expect no
more of other photographs."""


def source_lines(record, pretrained):
    test, data = pretrained["test"], pretrained["data"]
    return f"""VGG16's convolutions, trained from scratch on {data["train"]:,} pictures of
  {len(pretrained["confusion"])} ImageNet classes at 32 x 32 pixels (notebook `00-pretrain-backbone`;
  {test["correct"] / test["total"]:.1%} of {test["total"]:,} test pictures right). SHA-256 of the file:
  `{record["source_weights"]["sha256"]}`."""


def current():
    """The card of the published model, None where there is none."""
    record = runs.published(EXPERIMENT)
    if record is None:
        return None
    trained = [record for record in report.read_records() if record["experiment"] == "vgg16-fine-tuned"]
    overlap = runs.published("source-overlap")["overlap"]
    facts, pretrained = model_files.facts(model_files.MODEL), runs.published("pretrain-vgg16")
    return text(record, facts, trained, pretrained, overlap)


def main():
    """Renew the card, if a model is published."""
    content = current()
    if content:
        files.write_whole(CARD, lambda part: part.write_text(content, encoding="utf-8"))
        print(f"wrote {CARD}")


if __name__ == "__main__":
    main()
