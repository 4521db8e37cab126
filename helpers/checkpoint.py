"""What an interrupted training goes on from."""

import time

import keras
import numpy as np
from keras import ops

from helpers import files, runs


class Checkpoint(keras.callbacks.Callback):
    """After every epoch: one printed line, and all that is needed to go on, written whole or not at all.

    Weights lie in files named by epoch; state.json, written last, names the ones that count. Unlike Keras's
    BackupAndRestore it brings back what early stopping remembers as well.
    """

    REMEMBERED = ("wait", "best", "best_epoch")

    def __init__(self, run, early_stopping=None):
        super().__init__()
        self.run, self.early_stopping = run, early_stopping
        self.state = {"epoch": 0, "history": [], "epoch_seconds": [], "stopped": False}
        self.state["environment"] = runs.environment()  # of the code that starts the run

    def restore(self, model):
        """Load the last finished epoch's state, if there is one; return how many epochs are done."""
        if self.run.state.is_file():
            now, self.state = self.state["environment"], files.read_json(self.run.state)
            # Of two commits, or of versions that have changed meanwhile: no commit tells how it came about.
            self.state["environment"]["dirty"] |= now != self.state["environment"]
            model.load_weights(self.run.folder / self.state["weights"])
        return self.state["epoch"]

    def on_train_begin(self, logs=None):
        # Early stopping stands before this callback and has just forgotten everything.
        for name, value in self.state.get("early_stopping", {}).items():
            setattr(self.early_stopping, name, value)

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = round(time.perf_counter() - self.started, 2)
        line = {
            "epoch": epoch + 1,
            "train_accuracy": logs["accuracy"],
            "train_loss": logs["loss"],
            "validation_accuracy": logs["val_accuracy"],
            "validation_loss": logs["val_loss"],
            "learning_rate": float(ops.convert_to_numpy(self.model.optimizer.learning_rate)),
        }
        self.state["history"].append({key: round(value, 6) for key, value in line.items()})
        self.state["epoch_seconds"].append(seconds)
        if not np.isfinite(logs["loss"]):
            self.model.stop_training = True  # it has diverged, and never comes back
        self.save(epoch)
        print(
            f"{self.run}  epoch {epoch + 1}/{self.params['epochs']}  "
            f"train {line['train_accuracy']:.3f} (loss {line['train_loss']:.3f})  "
            f"validation {line['validation_accuracy']:.3f} ({line['validation_loss']:.3f})  {seconds:.0f} s",
            flush=True,
        )

    def save(self, epoch):
        weights = f"epoch-{epoch + 1}.weights.h5"
        files.write_whole(self.run.folder / weights, self.model.save_weights)
        self.state |= {"epoch": epoch + 1, "weights": weights, "stopped": self.model.stop_training}
        if self.early_stopping:
            self.state["early_stopping"] = {
                name: getattr(self.early_stopping, name) for name in self.REMEMBERED
            }
            if self.early_stopping.best_epoch == epoch:
                self.state["best_weights"] = weights
        files.write_json(self.run.state, self.state)
        for path in self.run.folder.glob("*.weights.h5"):
            if path.name not in (weights, self.state.get("best_weights")):
                path.unlink()


def forget(run):
    """What only an unfinished run needs; the state first, which names the weights."""
    run.state.unlink(missing_ok=True)
    for leftover in run.folder.glob("*.weights.h5"):
        leftover.unlink()
