"""What others have published: their accuracies on CIFAR-10's test images, and test labels that people doubt.

Accuracies are in percent, as the source reports them: on other splits, with other tricks at test time, mostly
of a single run. They stand beside this repository's numbers, not in one ranking with them.
"""

from typing import NamedTuple


class Project(NamedTuple):
    """One of the five projects that this repository unites."""

    what: str
    reported: str
    here: str  # the beginning of the names of the experiments that take it up


PROJECTS = (
    Project(
        "VGG16 transfer, notebooks to download and apply", '"high levels of accuracy"', "vgg16-fine-tuned"
    ),
    Project("VGG16 frozen, dense head, Adam, 25 epochs of 64", "left as XX %", "vgg16-frozen"),
    Project("ResNet50, frozen and then fine-tuned", "31.76, then 88.82", "resnet50-fine-tuned"),
    Project("a ladder of CNNs, learning rate lowered by stages", "76", "baseline-stages"),
    Project("MobileNetV2 transfer for low latency", '"significant"', "mobilenetv2-"),
)


NOT_RECORDED = "not recorded"  # where it was read


class Peer(NamedTuple):
    """A result of another project."""

    network: str
    how: str
    accuracy: str
    source: str  # owner/name: a repository on GitHub


PEERS = (
    Peer("VGG16", "from scratch, up to 350 epochs", "92.64", "kuangliu/pytorch-cifar"),
    Peer("VGG16", "from scratch, batch norm, dropout, Keras", "93.56", "geifmany/cifar-vgg"),
    Peer("VGG16", "from scratch, batch norm, 200 epochs", "94.16", "chenyaofo/pytorch-cifar-models"),
    Peer("VGG16", "from scratch, 70 epochs", "94.27", "WeihaoZhuang/cifar10-100-fast-training"),
    Peer("VGG16", "frozen at 32 px", "60.74", "prabhu-313/cifar10-transfer-learning"),
    Peer("VGG16", "frozen, linear at 224 px", "85.28", "rnoxy/cifar10-cnn"),
    Peer("ResNet50", "from scratch, up to 350 epochs", "93.62", "kuangliu/pytorch-cifar"),
    Peer("ResNet50", "from scratch, 70 epochs", "95.62", "WeihaoZhuang/cifar10-100-fast-training"),
    Peer("ResNet50", "frozen at 32 px", "50.55", "prabhu-313/cifar10-transfer-learning"),
    Peer("ResNet50", "frozen, linear at 224 px", "91.58", "rnoxy/cifar10-cnn"),
    Peer("ResNet50", "frozen, linear at 224 px", "93.6", "BYOL, arXiv:2006.07733, table 3"),
    Peer("ResNet50", "fine-tuned at 224 px", "97.5", "BYOL, arXiv:2006.07733, table 3"),
    Peer("ResNet50", "from scratch at 224 px", "95.9", "BYOL, arXiv:2006.07733, table 3"),
    Peer("ResNet50 (BiT-M)", "ImageNet-21k, fine-tuned", "97.2", "BiT, arXiv:1912.11370"),
    Peer("ResNet50 (BiT-M)", "the same, 5 labels a class; 1", "83.3; 54.4", "BiT, arXiv:1912.11370"),
    Peer("ResNet-18", "from scratch, 32.3 PFLOP", "96.0", "KellerJordan/cifar10-airbench"),
    Peer("MobileNetV2", "from scratch, 70 epochs", "93.69", "WeihaoZhuang/cifar10-100-fast-training"),
    Peer("MobileNetV2", "from scratch, 200 epochs", "93.79", "chenyaofo/pytorch-cifar-models"),
    Peer("MobileNetV2", "from scratch, up to 350 epochs", "94.43", "kuangliu/pytorch-cifar"),
    Peer("MobileNetV2", "frozen at 32 px", "34.17", "prabhu-313/cifar10-transfer-learning"),
    Peer("MobileNetV2", "at 160 px, Keras: 0, 10, 30 layers trained", "86.8; 88.8; 91.6", NOT_RECORDED),
    Peer("MobileNetV2", "at 224 px, half of it trained; validation", "93.5", NOT_RECORDED),
    Peer("various", "typical Keras notebooks of transfer", "84 to 93", NOT_RECORDED),
    Peer("airbench93", "from scratch, 0.18 PFLOP", "93", "KellerJordan/cifar10-airbench"),
    Peer("airbench94", "from scratch, 9.9 epochs, 0.36 PFLOP", "94.01 (n=1000)", "arXiv:2404.00498"),
    Peer("airbench94", "the same with Muon, 0.29 PFLOP", "94.01", "KellerJordan/cifar10-airbench"),
    Peer("airbench95", "from scratch, 1.4 PFLOP", "95.01", "KellerJordan/cifar10-airbench"),
    Peer("airbench96", "from scratch, 4.9 PFLOP", "96.03", "KellerJordan/cifar10-airbench"),
    Peer("people", "one judgement; the plurality of about 50", "95.2; 99.2", "CIFAR-10H, arXiv:1908.07086"),
)


class Calibrated(NamedTuple):
    """Expected calibration error on CIFAR-10's test images, in percent."""

    network: str
    as_trained: float
    with_temperature: float | None
    source: str


CALIBRATED = (
    Calibrated("ResNet110", 4.6, 0.83, "Guo et al., arXiv:1706.04599"),
    Calibrated("DenseNet40", 3.28, 0.33, "Guo et al., arXiv:1706.04599"),
    Calibrated("WRN-28-10, 96.0 % right", 2.3, None, "google/uncertainty-baselines"),
)

# Test images whose label fewer than three of five raters confirmed, by number in the test set's own order.
# Northcutt, Athalye and Mueller 2021, "Pervasive Label Errors in Test Sets", arXiv:2103.14749, from
# github.com/cleanlab/label-errors, mturk/cifar10_mturk.json. Only 275 images were shown to raters, those that
# confident learning had picked out: there may be more.
DOUBTED = (
    165, 792, 882, 1227, 1300, 1684, 1718, 1969, 2010, 2128, 2232, 2405, 2532, 2592, 2804, 2840, 2940, 3113,
    3168, 3183, 3192, 3490, 3600, 3753, 3977, 4055, 4198, 4614, 4643, 4794, 4910, 4965, 5166, 5191, 5211,
    5468, 5632, 5690, 5882, 5960, 6522, 6792, 6877, 6966, 7311, 7657, 7846, 8058, 8296, 8620, 9227, 9352,
    9643, 9793,
)  # fmt: skip
# For those of them where three raters or more agreed on another class: its number.
RATERS_SAY = {
    1227: 5, 1718: 8, 2405: 6, 2592: 4, 2804: 5, 4794: 2, 5191: 5, 5468: 3, 5632: 5, 5690: 4, 5960: 3,
    6877: 8, 6966: 8, 7657: 7, 7846: 3, 8058: 7, 9227: 9, 9352: 9,
}  # fmt: skip
