"""
A small network that Lightning fits to made-up data: accumulation, clipping, a schedule, validation, logged metrics.

Prints every loss and the digest of the final weights, bit for bit. `--callback` adds TruerunCallback; the entry point adds
it by itself under `truerun run` or with TRUERUN_WATCH=1.
"""

import hashlib
import logging
import sys
import tempfile
import warnings

import lightning.pytorch as pl
import torch

warnings.simplefilter("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Net(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(16, 48), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(48, 4))
        self.losses: list[str] = []

    def training_step(self, batch, index):
        x, y = batch
        loss = torch.nn.functional.cross_entropy(self.body(x), y)
        self.losses.append(loss.item().hex())
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, index):
        x, y = batch
        self.log("val_accuracy", (self.body(x).argmax(1) == y).float().mean(), on_epoch=True)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
        return {"optimizer": optimizer, "lr_scheduler": schedule}


def main() -> None:
    torch.set_num_threads(1)
    pl.seed_everything(11, verbose=False)
    x = torch.randn(256, 16)
    rows = torch.utils.data.TensorDataset(x, x[:, :4].argmax(1))
    callbacks = []
    if "--callback" in sys.argv:
        from truerun.adapters.lightning import TruerunCallback

        callbacks.append(TruerunCallback())
    net = Net()
    with tempfile.TemporaryDirectory() as folder:
        work = pl.Trainer(
            max_epochs=3,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accumulate_grad_batches=2,
            gradient_clip_val=0.5,
            log_every_n_steps=5,
            callbacks=callbacks,
            default_root_dir=folder,
        )
        work.fit(
            net,
            torch.utils.data.DataLoader(rows, batch_size=16, shuffle=True),
            torch.utils.data.DataLoader(rows, batch_size=64),
        )
    print("\n".join(net.losses))
    digest = hashlib.sha256()
    for tensor in net.state_dict().values():
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    print("weights", digest.hexdigest(), "random", torch.rand(1).item())


main()
