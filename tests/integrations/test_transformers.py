"""Hugging Face Transformers: a real Trainer with a tiny model logs, checkpoints and resumes."""

from __future__ import annotations

import json

import pytest
import torch

from dreamlake.errors import InvalidInput, NotFound
from dreamlake.integrations import transformers as ours


@pytest.fixture
def make(session, tmp_path):
    import transformers

    transformers.logging.set_verbosity_error()
    data = [{"input_ids": torch.arange(8) % 20, "labels": torch.arange(8) % 20} for _ in range(8)]

    def make(callback, folder="out", **options):
        torch.manual_seed(0)
        config = transformers.GPT2Config(
            vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=1
        )
        given = {
            "output_dir": str(tmp_path / folder), "max_steps": 4, "save_steps": 2, "logging_steps": 1, "report_to": [],
            "per_device_train_batch_size": 2, "use_cpu": True, "disable_tqdm": True, "seed": 1, **options,
        }  # fmt: skip
        return transformers.Trainer(
            transformers.GPT2LMHeadModel(config),
            transformers.TrainingArguments(**given),
            train_dataset=data,
            eval_dataset=data[:2],
            callbacks=[callback],
        )

    return make


def test_a_run_is_logged_kept_and_resumed(session, make, tmp_path):
    callback = ours.DreamLakeCallback(session, save_model=True)
    whole = make(callback, "whole")
    whole.train()
    assert callback.steps() == [2, 4] and callback.best() is None
    names = {f["filename"] for f in session.files.list(path="/checkpoints/checkpoint-4")}
    assert {"model.safetensors", "optimizer.pt", "trainer_state.json", "scheduler.pt"} <= names
    assert session.files.exists("/checkpoints/model/model.safetensors")
    loss = session.track("loss").read()["data"]
    assert [p["data"]["step"] for p in loss] == [1, 2, 3, 4]
    assert session.parameters().get("training.max_steps") == 4 and session.parameters().get("model.n_embd") == 8

    path = callback.fetch(tmp_path / "again", 2)
    again = make(callback, "again")
    again.train(resume_from_checkpoint=path)
    assert again.state.global_step == 4
    for (name, a), (_, b) in zip(whole.model.state_dict().items(), again.model.state_dict().items(), strict=True):
        assert torch.allclose(a, b), name
    with pytest.raises(NotFound, match=r"there are \[2, 4\]"):
        callback.fetch(tmp_path, 3)


def test_old_checkpoints_go_but_not_the_best(session, make, tmp_path):
    callback = ours.DreamLakeCallback(session, keep_last=1)
    assert callback.fetch(tmp_path) is None
    trainer = make(
        callback, eval_strategy="steps", eval_steps=1, save_steps=1, load_best_model_at_end=True,
        metric_for_best_model="eval_loss", greater_is_better=True, learning_rate=0.1,
    )  # fmt: skip
    trainer.train()
    best = int(trainer.state.best_model_checkpoint.rpartition("-")[2])
    assert callback.best() == best
    assert callback.steps() == sorted({best, 4})
    state = json.loads(session.files.read_text(f"/checkpoints/checkpoint-{best}/trainer_state.json@best"))
    assert state["global_step"] == best
    assert session.files.restore("/checkpoints/checkpoint-2/trainer_state.json") if best != 2 else True


def test_wrong_use(session):
    with pytest.raises(InvalidInput, match="keep_last=0"):
        ours.DreamLakeCallback(session, keep_last=0)
    with pytest.raises(AttributeError):
        ours.Unheard  # noqa: B018
