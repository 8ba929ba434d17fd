"""Write scikit-learn's digits (parquet) and breast cancer (csv) data into a folder."""

import sys
from pathlib import Path

import polars as pl
from sklearn.datasets import load_breast_cancer, load_digits


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    columns = {f"p{i}": digits.data[:, i].astype("float32") for i in range(digits.data.shape[1])}
    pl.DataFrame({**columns, "digit": digits.target}).write_parquet(folder / "digits.parquet")
    cancer = load_breast_cancer()
    names = [name.replace(" ", "_") for name in cancer.feature_names]
    table = pl.DataFrame({name: cancer.data[:, i] for i, name in enumerate(names)})
    table.with_columns(pl.Series("benign", cancer.target)).write_csv(folder / "cancer.csv")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data"))
