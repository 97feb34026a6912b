"""The bars of the forecasts, on the year they are quoted for."""

import pytest
from eval import signals


@pytest.mark.parametrize(("name", "least"), [("CISO", 0.95), ("ERCO", 0.45)])
def test_a_forecast_by_net_load_keeps_its_share_of_the_perfect_saving_and_beats_yesterday(name, least):
    folder = signals.data()
    if folder is None:
        pytest.skip("../shared/data/carbon/fuelmix_ci_weather is not here")

    found = signals.evaluate(folder / f"{name}.csv.gz", signals.ZONES[name], 2022)

    rows = {row["forecaster"]: row for row in found["rows"]}
    ours, yesterday = rows["net load, forecast from weather"], rows["same hour yesterday"]
    assert found["days"] > 350
    assert ours["share_6h"] > least
    assert ours["share_6h"] > yesterday["share_6h"]
    assert ours["share_1h"] > yesterday["share_1h"]
