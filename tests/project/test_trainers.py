"""Callbacks of real trainers: each save is gated, and a training that makes a worse model ends."""

import re
from pathlib import Path

import pytest
import torch
from zoo import Zoo, images_of, network

from harness import lightning_callback, transformers_callback

pytestmark = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("default"),
]  # Trainers warn of their own doings.
STEPS, BREAKS_AT = 3, 2
SETTINGS = {"data": "npz:zoo.npz", "model": "own:network"}
BUILDER = """
from harness.networks.architectures import FashionCNN


def network():
    return FashionCNN(
        conv_channels=[1], fc_sizes=[], image_size=[16, 16], classes=4, mean=0.0, std=1.0
    )
"""


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(BUILDER)
    return Zoo(tmp_path)


def headlines(capfd):
    """Return the first words of the headlines that were printed."""
    return re.findall(r"^(PASS|FAIL|ERROR):", capfd.readouterr().out, re.MULTILINE)


class Fading(torch.nn.Module):
    """A network that loses its weights at the second step."""

    def __init__(self):
        super().__init__()
        self.model, self.steps = network(), 0

    def forward(self, pixels, labels=None):
        self.steps += 1
        if self.steps == BREAKS_AT:
            with torch.no_grad():
                self.model.fc1.weight.zero_()
        return {"loss": 0 * self.model(pixels).sum()}


class Batches(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, at):
        return images_of(8).pixels[at].float() / 255, at % 4


def test_lightning_ends_at_a_worse_model(zoo, capfd):
    lightning = pytest.importorskip("lightning")  # Here, since its import takes seconds.

    class Lit(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Fading()

        def training_step(self, batch, number):
            return self.net(batch[0])["loss"]

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.0)

    saves = lightning.pytorch.callbacks.ModelCheckpoint(Path("runs"), save_top_k=-1)
    trainer = lightning.Trainer(
        max_epochs=STEPS,
        callbacks=[saves, lightning_callback(**SETTINGS)],
        logger=False,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Lit(), torch.utils.data.DataLoader(Batches(), batch_size=8))
    assert trainer.current_epoch == BREAKS_AT
    assert headlines(capfd) == ["PASS", "FAIL"]


def test_transformers_ends_at_a_worse_model(zoo, capfd):
    transformers = pytest.importorskip("transformers")
    arguments = transformers.TrainingArguments(
        "runs",
        max_steps=STEPS,
        save_steps=1,
        per_device_train_batch_size=8,
        use_cpu=True,
        report_to="none",
        learning_rate=0.0,
        disable_tqdm=True,
    )
    data = [
        {"pixels": pixels, "labels": label} for pixels, label in (Batches()[at] for at in range(8))
    ]
    trainer = transformers.Trainer(
        Fading(), arguments, train_dataset=data, callbacks=[transformers_callback(**SETTINGS)]
    )
    trainer.train()
    assert trainer.state.global_step == BREAKS_AT
    assert headlines(capfd) == ["PASS", "FAIL"]
