"""What computes: a GPU or the processor, and what a record tells of it."""

import sys
from datetime import UTC, datetime

import keras
import psutil

from helpers import runs

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # as Linux calls them; the last one is ARM's
BFLOAT16_CAPABILITY = (8, 0)  # NVIDIA's, from Ampere on


def use(gpu="auto"):
    """Choose where to compute (auto, on or off; booleans and their spellings too) and return its name."""
    wish = {"true": "on", "1": "on", "false": "off", "0": "off"}.get(str(gpu).lower(), str(gpu).lower())
    if wish not in ("auto", "on", "off"):
        raise ValueError(f"gpu must be auto, on or off; got {gpu!r}")
    if wish == "on" and not gpus():
        raise RuntimeError(
            f"gpu=on, but Keras's {keras.backend.backend()} backend sees no GPU here: use auto or off"
        )
    if wish == "off":
        keep_to_cpu()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")  # several models in one process look to it like needless retracing
    return device()


def device():
    """The name of what computes."""
    return gpus()[0] if gpus() else runs.cpu_name()


def gpus():
    """Names of the GPUs that the backend uses."""
    if keras.backend.backend() == "jax":
        import jax

        default = jax.config.jax_default_device
        devices = jax.devices() if default is None else [default]
        return [device.device_kind for device in devices if device.platform != "cpu"]
    if keras.backend.backend() == "torch":
        import torch

        return [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    import tensorflow as tf

    visible = tf.config.get_visible_devices("GPU")
    return [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in visible]


def has_bfloat16():
    """Whether bfloat16 is fast on what computes; on a processor that can't be asked, no."""
    if not gpus():
        cpuinfo = runs.CPUINFO
        return cpuinfo.is_file() and not BFLOAT16_FLAGS.isdisjoint(cpuinfo.read_text().split())
    if keras.backend.backend() == "jax":
        return True  # where the hardware can't, XLA converts
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)
    import tensorflow as tf

    details = map(tf.config.experimental.get_device_details, tf.config.get_visible_devices("GPU"))
    return all(gpu.get("compute_capability", (0, 0)) >= BFLOAT16_CAPABILITY for gpu in details)


def keep_to_cpu():
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_default_device", jax.devices("cpu")[0])
        return
    if keras.backend.backend() == "torch":
        if gpus():  # Keras chose it when it was imported
            raise RuntimeError("gpu=off, but Keras uses torch's GPU: start with CUDA_VISIBLE_DEVICES=-1")
        return
    import tensorflow as tf

    try:
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError:
        raise RuntimeError("the GPU is in use already: restart the kernel, then say gpu=off") from None


def circumstances():
    """What a record tells of where, when and by what code it was computed."""
    return {
        "peak_memory_mb": peak_memory_mb(),
        "device": device(),
        "backend": keras.backend.backend(),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **runs.environment(),
    }


def peak_memory_mb():
    """The most memory that this process has held so far, earlier runs in it included."""
    if sys.platform == "win32":
        return round(psutil.Process().memory_info().peak_wset / 2**20)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))  # bytes on macOS, KiB elsewhere
