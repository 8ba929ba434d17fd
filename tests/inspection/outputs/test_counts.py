"""From plain columns to counts."""

import numpy as np

from truerun.core.declaration import OutputsSection
from truerun.inspection.outputs.counts import MAX_VALUES, count_outputs

SECTION = OutputsSection(predictions="p.parquet", decision="approved", groups=("sex", "age"))


def test_columns_become_slices_and_numbers_are_compared_alike_however_stored():
    columns = {
        "label": [3, 1, None, 2],
        "prediction": [3.0, 2.0, 1.0, None],
        "sex": ["f", None, "m", "m"],
        "approved": [True, "no", 1, 0],
    }
    outputs = count_outputs(columns, SECTION, name="run r1")
    assert outputs.examples == 2
    assert outputs.right.tolist() == [True, False]
    assert outputs.rows.tolist() == [0, 1]
    assert outputs.skipped == 2
    assert outputs.missing == ("age",)
    assert outputs.labels.values == ("1", "3")
    assert outputs.groups[0].codes.tolist() == [0, -1]
    assert outputs.decided.tolist() == [True, False]


def test_without_a_prediction_column_the_decision_is_the_prediction():
    outputs = count_outputs({"label": [1, 0], "approved": [1, 1]}, SECTION, name="run")
    assert outputs.right.tolist() == [True, False]


def test_ids_count_only_where_each_names_one_example():
    columns = {"label": [1, 1], "prediction": [1, 1], "id": ["a", "a"]}
    assert count_outputs(columns, SECTION, name="run").ids is None
    assert count_outputs({**columns, "id": ["a", "b"]}, SECTION, name="run").ids == ("a", "b")


def test_a_table_without_the_declared_columns_is_empty_and_says_what_is_missing():
    outputs = count_outputs({"x": [1, 2]}, SECTION, name="run")
    assert outputs.examples == 0
    assert set(outputs.missing) == {"label", "approved", "sex", "age"}
    assert count_outputs({}, SECTION, name="run").examples == 0


def test_a_column_with_too_many_values_is_bounded():
    n = MAX_VALUES + 50
    outputs = count_outputs({"label": list(range(n)), "prediction": list(range(n))}, SECTION, name="run")
    assert len(outputs.labels.values) == MAX_VALUES
    assert np.count_nonzero(outputs.labels.codes < 0) == 50
