"""Hugging Face Trainer with a tiny model made from scratch: arguments, losses and checkpoints go into a session.

Needs: pip install 'dreamlake[transformers]'
"""

import os
import tempfile
import warnings

warnings.filterwarnings("ignore")  # of the libraries
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers

from dreamlake import Session
from dreamlake.integrations.transformers import DreamLakeCallback

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
TEXT = [(torch.arange(16) * step) % 64 for step in range(1, 33)]
DATA = [{"input_ids": line, "labels": line} for line in TEXT]


def train(callback: DreamLakeCallback, steps: int, folder: str) -> None:
    config = transformers.GPT2Config(
        vocab_size=64, n_positions=16, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=1
    )
    arguments = transformers.TrainingArguments(
        output_dir=folder, max_steps=steps, save_steps=10, logging_steps=5, per_device_train_batch_size=8,
        learning_rate=0.01, use_cpu=True, report_to=[], disable_tqdm=True, seed=0,
    )  # fmt: skip
    trainer = transformers.Trainer(
        transformers.GPT2LMHeadModel(config), arguments, train_dataset=DATA, callbacks=[callback]
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train(resume_from_checkpoint=callback.fetch(folder))


with Session("transformers", "examples") as session:
    callback = DreamLakeCallback(session, keep_last=2)
    for steps in (20, 40):  # the second run finds nothing on disk: its checkpoint comes out of the session
        with tempfile.TemporaryDirectory() as folder:
            train(callback, steps, folder)
        print(f"after {steps} steps the session has the checkpoints {callback.steps()}")
    losses = session.track("loss").read()["data"]
    print("loss:", " ".join(f"{point['data']['value']:.2f}" for point in losses))
    print("learning rate:", session.parameters().get("training.learning_rate"))
