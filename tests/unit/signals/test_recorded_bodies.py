"""Every recorded body parses, or is refused with its documented reason."""

import re
from datetime import UTC, date, datetime

import pytest
from unit.signals.conftest import RECORDED, recorded

from broker.core.errors import SignalUnreadable
from broker.signals.recognise import recognise

NOW = datetime(2026, 11, 1, tzinfo=UTC)

# Body → (format, how many values, first moment)
PARSED = {
    "caiso/oasis_SLD_REN_FCST_DAM_20250204_20250211.zip": ("caiso_oasis SLD_REN_FCST", 168, "2025-02-04T08:00"),
    "caiso/outlook_history_20191103_netdemand_DST-end.csv": ("caiso_outlook netdemand", 288, "2019-11-03T07:00"),
    "caiso/outlook_history_20230101_fuelsource.csv": ("caiso_outlook fuelsource", 288, "2023-01-01T08:00"),
    "caiso/outlook_history_20260311_rtm_forecast_7day.csv.gz": (
        "caiso_outlook rtm_forecast_7day",
        2305,
        "2026-03-11T06:55",
    ),
    "eia/BPAT_consumption.json": ("eia930 region-data", 2, "2023-05-01T10:00"),
    "eia/IID_battery_storage.json": ("eia930 fuel-type-data", 1, "2024-02-27T10:00"),
    "eia/PGE_with_nulls.json": ("eia930 fuel-type-data", 1, "2022-10-31T11:00"),
    "eia/v2_rto_fuel-type-data_20230101_offset0.json.gz": ("eia930 fuel-type-data", None, "2022-12-31T23:00"),
    "eia/v2_rto_fuel-type-data_20230101_offset5000.json.gz": ("eia930 fuel-type-data", None, "2023-01-01T11:00"),
    "eia/v2_rto_interchange-data_CISO_20240101.json.gz": ("eia930 interchange-data", 275, "2024-01-01T00:00"),
    "eia/v2_rto_region-data_D_20230101.json.gz": ("eia930 region-data", 1673, "2023-01-01T00:00"),
    "entsoe/A44_day-ahead_price_DE-LU_20210101.xml.gz": ("entsoe A44", 192, "2020-12-31T23:00"),
    "entsoe/A44_day-ahead_price_PT_20241229_gaps.xml.gz": ("entsoe A44", 24, "2024-12-28T23:00"),
    "entsoe/A69_wind_solar_forecast_FI_DA.xml.gz": ("entsoe A75", 288, "2024-02-07T23:00"),
    "entsoe/A75_generation_FI.xml.gz": ("entsoe A75", 288, "2025-10-21T12:00"),
    "entsoe/A75_generation_FR_20210101.xml.gz": ("entsoe A75", 24, "2021-01-01T00:00"),
    "entsoe/A75_generation_NO5_negatives.xml.gz": ("entsoe A75", 47, "2023-05-09T09:00"),
    "ercot/IceDocListJsonWS_12311_load-forecast.json.gz": ("ercot_mis list", 180, None),
    "ercot/dashboards_energy-storage-resources_20251009.json.gz": (
        "ercot_dashboards energy-storage-resources",
        369,
        "2025-10-08T05:00",
    ),
    "ercot/dashboards_fuel-mix_20241124_old-schema.json.gz": ("ercot_dashboards fuel-mix", 386, "2024-11-23T06:00"),
    "ercot/dashboards_fuel-mix_20251009.json.gz": ("ercot_dashboards fuel-mix", 369, "2025-10-08T05:00"),
    "ercot/dashboards_loadForecastVsActual_20241125.json.gz": (
        "ercot_dashboards loadForecastVsActual",
        72,
        "2024-11-24T07:00",
    ),
    "ercot/mirDownload_12311_load-forecast.zip": ("ercot_mis 12311", 192, "2025-03-13T06:00"),
    "ercot/mirDownload_13028_wind.zip": ("ercot_mis 13028", 216, "2025-03-11T19:00"),
    "ercot/mirDownload_13483_solar.zip": ("ercot_mis 13483", 216, "2025-03-11T19:00"),
    "isone/genfuelmix_20241103_DST.json.gz": ("isone_genfuelmix", 248, "2024-11-03T04:08:35"),
}
REFUSED = {
    "caiso/daily_renewable_report_20251102_arrays.json.gz": "arrays without moments",
    "caiso/daily_renewable_report_20251103_arrays.json.gz": "arrays without moments",
    "other/miso_wind_forecast.json.gz": "wind alone makes no intensity",
    "other/nyiso_20250201_rtfuelmix_month.zip": "NYISO is read from EIA-930",
    "other/pjm_gen_by_fuel.json.gz": "PJM is read from EIA-930",
}


def day_of(path):
    found = re.search(r"history_(\d{4})(\d\d)(\d\d)_", path)
    return date(*map(int, found.groups())) if found else None


@pytest.mark.parametrize("path", PARSED)
def test_a_recorded_body_parses(path):
    name, found, first = PARSED[path]

    said = recognise(recorded(path), NOW, day_of(path))

    assert said.format == name
    assert found is None or said.found == found
    assert first is None or said.first == datetime.fromisoformat(f"{first}+00:00")


@pytest.mark.parametrize("path", REFUSED)
def test_a_body_that_nobody_reads_is_refused_with_its_reason(path):
    with pytest.raises(SignalUnreadable, match=re.escape(REFUSED[path])):
        recognise(recorded(path), NOW)


def test_no_recorded_body_is_left_out():
    if RECORDED is None:
        pytest.skip("../shared/data/grid is not here")
    bodies = {
        path.relative_to(RECORDED / "grid").as_posix()
        for path in (RECORDED / "grid").rglob("*")
        if path.is_file() and path.name != "README.md"
    }

    assert bodies == PARSED.keys() | REFUSED.keys()
