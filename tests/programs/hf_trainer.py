"""
A tiny BERT that Hugging Face's Trainer trains on made-up data: gradient accumulation, clipping, a schedule, evaluation in between.

Prints every logged loss and the digest of the final weights, bit for bit. `--callback` adds TruerunCallback, `--best` loads
the best checkpoint at the end, `--resume` stops in the middle and goes on from the checkpoint.
"""

import hashlib
import os
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import BertConfig, BertForSequenceClassification, PrinterCallback, Trainer, TrainingArguments, set_seed

CONFIG = BertConfig(
    vocab_size=64,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=16,
    num_labels=3,
)


class Rows(torch.utils.data.Dataset):
    """Tokens whose first says the label."""

    def __init__(self, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.tokens = torch.randint(0, 64, (count, 16), generator=generator)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[index], "labels": self.tokens[index][0] % 3}


def trainer(folder: str, max_steps: int) -> Trainer:
    set_seed(7)
    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=max_steps,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        learning_rate=5e-3,
        weight_decay=0.01,
        warmup_steps=5,
        lr_scheduler_type="cosine",
        max_grad_norm=1.0,
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=10,
        save_strategy="steps",
        save_steps=10,
        load_best_model_at_end="--best" in sys.argv,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=7,
    )
    callbacks = []
    if "--callback" in sys.argv:
        from truerun.adapters.transformers import TruerunCallback

        callbacks.append(TruerunCallback())
    model = BertForSequenceClassification(CONFIG)
    made = Trainer(model=model, args=arguments, train_dataset=Rows(256, 1), eval_dataset=Rows(32, 2), callbacks=callbacks)
    made.remove_callback(PrinterCallback)  # it prints times
    return made


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        work = trainer(folder, 30)
        if "--resume" in sys.argv:
            work.train()
            work = trainer(folder, 30)
            work.train(resume_from_checkpoint=os.path.join(folder, "checkpoint-20"))
        else:
            work.train()
    for entry in work.state.log_history:
        for name in ("loss", "eval_loss", "grad_norm"):
            if name in entry:
                print(entry["step"], name, float(entry[name]).hex())
    digest = hashlib.sha256()
    for tensor in work.model.state_dict().values():
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    print("weights", digest.hexdigest(), "random", torch.rand(1).item())


main()
