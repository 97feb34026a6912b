"""What grids and their servers really did (facts of ../shared/facts/carbon.md, 1.7), each with what is made of it."""

import io
import json
import zipfile
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from unit.signals.conftest import recorded, small

from broker.core.errors import SignalError, SignalUnavailable, SignalUnreadable
from broker.core.readings import Scope
from broker.signals import (
    carbon_caiso,
    carbon_eia930,
    carbon_electricitymaps,
    carbon_entsoe,
    carbon_ercot,
    carbon_gb,
    carbon_isone,
    factors,
    forecast_caiso_oasis,
    forecast_ercot,
    mix_file,
    price_caiso_lmp,
    price_ercot,
)
from broker.signals.mix import Fuel, Mix, intensity, tonnes_per_hour
from broker.signals.plausible import plausible

NOW = datetime(2026, 11, 1, tzinfo=UTC)
FIVE = timedelta(minutes=5)


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def labels(hours=range(24)):
    return [f"{hour:02}:{minute:02}" for hour in hours for minute in range(0, 60, 5)]


def zipped(name, text):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, text)
    return buffer.getvalue()


# CAISO


def test_on_the_day_of_25_hours_the_second_pass_is_a_gap_and_nothing_is_shifted():
    found = carbon_caiso.net_demands(small("caiso_netdemand_20191103.csv"), date(2019, 11, 3), NOW)

    starts = {row.start for row in found}
    day = [utc("2019-11-03T07:00") + number * FIVE for number in range(300)]
    missing = [moment for moment in day if moment not in starts]
    assert starts <= set(day)
    assert missing == [utc("2019-11-03T09:00") + number * FIVE for number in range(12)]
    at_three = next(row for row in found if row.start == utc("2019-11-03T11:00"))
    assert (at_three.load_mw, at_three.net_load_mw) == (18449, 17819)


def test_the_midnight_row_at_the_end_belongs_to_the_next_day_and_is_dropped():
    found = carbon_caiso.demands(small("caiso_netdemand_20191103.csv"), date(2019, 11, 3), NOW)

    assert found[utc("2019-11-03T07:00")] == 20638
    assert max(found) == utc("2019-11-04T07:55")


def test_a_repeated_hour_that_is_printed_twice_is_told_by_the_order_of_rows():
    twice = labels(range(2)) + labels([1]) + labels(range(2, 24))
    body = "Time,Current demand\n" + "".join(f"{label},{number}\n" for number, label in enumerate(twice))

    found = carbon_caiso.demands(body.encode(), date(2025, 11, 2), NOW)

    assert len(found) == 300
    assert found[utc("2025-11-02T09:00")] == 24  # the second 01:00


@pytest.mark.parametrize("empty", [True, False])
def test_on_the_day_of_23_hours_the_hour_that_is_not_there_is_dropped(empty):
    body = "Time,Current demand\n" + "".join(
        f"{label},{'' if empty and label.startswith('02') else 100}\n" for label in labels()
    )

    found = carbon_caiso.demands(body.encode(), date(2026, 3, 8), NOW)

    assert len(found) == 276
    assert utc("2026-03-08T09:55") in found
    assert utc("2026-03-08T10:00") in found  # 03:00, right after 01:55


def test_just_after_midnight_the_current_file_is_still_yesterdays():
    body = "Time,Current demand\n" + "".join(f"{label},100\n" for label in labels())

    found = carbon_caiso.demands(body.encode(), None, now=utc("2026-06-02T07:20"))  # 00:20 in California

    assert max(found) == utc("2026-06-02T06:55")


def test_rows_of_the_future_are_blank_and_left_out():
    body = "Time,Current demand\n" + "".join(f"{label},{'100' if label < '10:00' else ''}\n" for label in labels())

    found = carbon_caiso.demands(body.encode(), None, now=utc("2026-06-01T17:02"))  # 10:02

    assert max(found) == utc("2026-06-01T16:55")


CO2 = "Time,Biogas CO2,Biomass CO2,Natural Gas CO2,Coal CO2,Imports CO2,Geothermal CO2\n"


def test_exports_are_credited_in_caisos_own_accounting():
    tonnes = carbon_caiso.emissions((CO2 + "12:00,30,20,2000,0,-500,50\n").encode(), date(2026, 5, 1), NOW)
    demand = carbon_caiso.demands(b"Time,Current demand\n12:00,20000\n", date(2026, 5, 1), NOW)

    [reading] = carbon_caiso.intensity(tonnes, demand, NOW)

    assert reading.value == pytest.approx(80)
    assert (reading.scope, reading.boundary) == ("direct", "consumption")


def test_a_five_minutes_that_one_of_the_two_files_lacks_is_a_gap():
    tonnes = carbon_caiso.emissions((CO2 + "12:00,1,1,1,1,1,1\n12:05,1,1,,1,1,1\n").encode(), date(2026, 5, 1), NOW)
    demand = carbon_caiso.demands(b"Time,Current demand\n12:00,0\n12:05,100\n12:10,100\n", date(2026, 5, 1), NOW)

    assert len(carbon_caiso.intensity(tonnes, demand, NOW)) == 0


def test_solar_at_night_and_charging_batteries_neither_emit_nor_count_as_supply():
    body = small("caiso_fuelsource_20230101_until_0455.csv").decode().splitlines()
    charging = "05:00,-37,3000,900,280,210,190,0,2200,8000,1500,-1200,-300,0"
    [*_, mix] = carbon_caiso.fuel_mix("\n".join([*body, charging]).encode(), date(2023, 1, 1), NOW)
    factor = factors.for_zone("US-CAL-CISO", Scope.DIRECT).grams_per_kwh

    assert (mix.megawatts[Fuel.STORAGE], mix.megawatts[Fuel.IMPORTS], mix.megawatts[Fuel.SOLAR]) == (-1200, -300, -37)
    supply = 3000 + 900 + 280 + 210 + 190 + 2200 + 8000 + 1500
    assert mix.supply_mw == supply
    assert intensity(mix, factor) == pytest.approx((8000 * 396.2 + 900 * 38.9) / supply)


def test_older_files_spell_fuels_otherwise_and_have_no_batteries():
    header = "Time,Solar,Wind,Geothermal,Biomass,Biogas,Small hydro,Coal,Nuclear,Natural gas,Large hydro,Imports,Other"

    [mix] = carbon_caiso.fuel_mix(f"{header}\n00:00,1,2,3,4,5,6,7,8,9,10,11,12\n".encode(), date(2019, 1, 1), NOW)

    assert mix.megawatts[Fuel.HYDRO] == 16
    assert Fuel.STORAGE not in mix.megawatts


def test_a_new_fuel_is_refused_because_it_would_be_missing_from_the_emissions():
    body = small("caiso_fuelsource_20230101_until_0455.csv").replace(b",Other", b",Hydrogen", 1)

    with pytest.raises(SignalUnreadable, match="other"):
        carbon_caiso.fuel_mix(body, date(2023, 1, 1), NOW)
    more = "\n".join(line + (",Hydrogen" if line.startswith("Time") else ",0") for line in body.decode().splitlines())
    with pytest.raises(SignalUnreadable, match="hydrogen"):
        carbon_caiso.fuel_mix(more.replace(",Hydrogen", ",Other", 1).encode(), date(2023, 1, 1), NOW)


def test_the_seven_days_are_measured_first_and_forecast_then():
    found = carbon_caiso.seven_days(recorded("caiso/outlook_history_20260311_rtm_forecast_7day.csv.gz"))

    measured = [row for row in found if not row.is_forecast]
    assert (measured[0].end, measured[0].load_mw, measured[0].net_load_mw) == (utc("2026-03-11T07:00"), 21481, 16265)
    assert found[-1].end == utc("2026-03-19T07:00")
    assert all(row.is_forecast for row in found[len(measured) :])
    assert min(row.net_load_mw for row in found) < 0


def test_oasis_says_errors_as_xml_in_a_zip_with_status_200():
    fault = (
        "<m:Report><m:ERR_CODE>1000</m:ERR_CODE><m:ERR_DESC>No data returned for the selection</m:ERR_DESC></m:Report>"
    )

    with pytest.raises(SignalUnreadable, match="No data returned"):
        forecast_caiso_oasis.renewables(zipped("INVALID_REQUEST.xml", fault))


def test_wind_and_solar_of_all_hubs_are_summed():
    found = forecast_caiso_oasis.renewables(recorded("caiso/oasis_SLD_REN_FCST_DAM_20250204_20250211.zip"))

    assert len(found) == 168
    assert 5000 < found[utc("2025-02-04T20:00"), utc("2025-02-04T21:00")] < 25000


def test_the_price_is_lmp_and_none_of_its_parts():
    header = "INTERVALSTARTTIME_GMT,INTERVALENDTIME_GMT,OPR_DT,OPR_HR,NODE_ID,NODE,MARKET_RUN_ID,LMP_TYPE,MW,GROUP"
    hour = "2026-04-01T07:00:00-00:00,2026-04-01T08:00:00-00:00,2026-04-01,1,TH_NP15_GEN-APND,TH_NP15_GEN-APND,DAM"
    body = zipped("x.csv", f"{header}\n{hour},MCE,40,1\n{hour},LMP,-3.25,1\n")

    [price] = price_caiso_lmp.lmp(body, price_caiso_lmp.HUB, NOW)

    assert (price.value, price.currency, price.start) == (Decimal("-3.25"), "USD", utc("2026-04-01T07:00"))
    with pytest.raises(SignalUnreadable, match="no price"):
        price_caiso_lmp.lmp(body, "TH_SP15_GEN-APND", NOW)


# ERCOT


@pytest.mark.parametrize("year", ["2024", "2025"])
def test_both_schemas_of_the_fuel_mix_parse_and_stamps_are_rounded(year):
    found = carbon_ercot.fuel_mix(small(f"ercot_fuel-mix_{year}_hour.json"))

    assert len(found) == 12
    assert [mix.end - mix.start for mix in found] == [FIVE] * 12
    assert all(mix.end.second == 0 and mix.end.minute % 5 == 0 for mix in found)
    factor = factors.for_zone("US-TEX-ERCO", Scope.DIRECT).grams_per_kwh
    assert all(100 < intensity(mix, factor) < 600 for mix in found)


def ercot(data, types=("Coal and Lignite", "Natural Gas", "Wind", "Power Storage")):
    return json.dumps({"lastUpdated": "x", "types": types, "data": {"2025-10-08": data}}).encode()


def test_one_interval_under_two_stamps_is_put_together():
    body = ercot(
        {
            "2025-10-08 00:04:56-0500": {"Coal and Lignite": {"gen": 10}, "Wind": {"gen": 5}},
            "2025-10-08 00:05:02-0500": {"Natural Gas": {"gen": 20}, "Power Storage": {"gen": -3}},
        }
    )

    [mix] = carbon_ercot.fuel_mix(body)

    assert mix.end == utc("2025-10-08T05:05")
    assert mix.megawatts == {Fuel.COAL: 10, Fuel.WIND: 5, Fuel.GAS: 20, Fuel.STORAGE: -3}
    assert tonnes_per_hour(mix, {Fuel.COAL: 1000, Fuel.GAS: 400, Fuel.WIND: 0}) == pytest.approx(18)


def test_an_interval_that_lacks_a_fuel_is_left_out():
    whole = {"Coal and Lignite": {"gen": 10}, "Natural Gas": {"gen": 20}, "Wind": {"gen": 5}}
    without = {name: said for name, said in whole.items() if name != "Natural Gas"}

    found = carbon_ercot.fuel_mix(ercot({"2025-10-08 00:04:56-0500": without, "2025-10-08 00:09:56-0500": whole}))

    assert [mix.end for mix in found] == [utc("2025-10-08T05:10")]


def test_storage_in_two_columns_is_one():
    fuels = {"Wind": {"gen": 9}, "Power Storage Charging": {"gen": -7}, "Power Storage Discharging": {"gen": 2}}

    [mix] = carbon_ercot.fuel_mix(ercot({"2026-10-07 00:04:56-0500": fuels}, types=list(fuels)))

    assert mix.megawatts[Fuel.STORAGE] == -5


def test_an_unknown_fuel_or_another_schema_is_refused():
    fuels = {"Wind": {"gen": 9}, "Fusion": {"gen": 1}}
    with pytest.raises(SignalUnreadable, match="Fusion"):
        carbon_ercot.fuel_mix(ercot({"2026-10-07 00:04:56-0500": fuels}, types=list(fuels)))

    source = carbon_ercot.ErcotDashboards(lambda ask, parse: parse(a_body(b'{"types": ["Wind"], "dates": {}}')))
    with pytest.raises(SignalUnreadable, match="data"):
        source.average("US-TEX-ERCO", NOW)


def test_storage_goes_by_epoch_on_the_long_day():
    rows = [
        {"timestamp": "2025-11-02 02:00:00-0600", "netOutput": 1, "epoch": 1762066800000},
        {"timestamp": "2025-11-02 02:00:00-0600", "netOutput": 2, "epoch": 1762070400000},
    ]

    found = carbon_ercot.storage(json.dumps({"previousDay": {"data": rows}, "currentDay": {"data": []}}).encode())

    assert found == [(utc("2025-11-02T07:00"), 1), (utc("2025-11-02T08:00"), 2)]


def load_csv(day, hours, flag="DSTFlag    "):
    lines = [f"DeliveryDate,HourEnding,North,South,West,Houston,SystemTotal,{flag}"]
    lines += [f"{day},{hour}:00,1,1,1,1,{number},{dst}" for number, (hour, dst) in enumerate(hours)]
    return zipped("x.csv", "\n".join(lines) + "\n")


def test_the_repeated_hour_is_told_by_its_flag_or_as_hour_25():
    plain = [(hour, "N") for hour in range(1, 25)]
    flagged = [*plain[:2], (2, "Y"), *plain[2:]]

    by_flag = forecast_ercot.load_forecast(load_csv("11/02/2025", flagged))
    by_number = forecast_ercot.load_forecast(load_csv("11/02/2025", [*plain, (25, "N")]))

    assert len(by_flag) == 25
    assert by_flag[utc("2025-11-02T07:00")] == 1
    assert by_flag[utc("2025-11-02T08:00")] == 2
    assert by_flag.keys() == by_number.keys()
    assert by_number == {utc("2025-11-02T06:00") + number * timedelta(hours=1): number for number in range(25)}


def test_the_short_day_has_no_hour_that_is_not_there():
    found = forecast_ercot.load_forecast(load_csv("03/09/2025", [(hour, "N") for hour in range(1, 25)]))

    assert len(found) == 23
    assert max(found) == utc("2025-03-10T05:00")


def test_past_hours_are_measured_and_later_ones_forecast():
    found = forecast_ercot.solar_forecast(small("ercot_13483_solar.zip"))

    assert len(found) == 216
    assert found[utc("2025-03-11T19:00")] == 19440.92


def test_the_newest_csv_of_the_list_is_taken_and_other_reports_are_refused():
    body = recorded("ercot/IceDocListJsonWS_12311_load-forecast.json.gz")

    assert forecast_ercot.newest(forecast_ercot.documents(body, "12311"), "12311").id == "1085273815"
    with pytest.raises(SignalUnreadable, match="12311"):
        forecast_ercot.documents(body, "13028")


def test_prices_below_nought_are_prices_and_day_ahead_follows_real_time():
    document = {
        "rtSppData": [{"interval": 1777086900000, "dstFlag": "N", "hbHubAvg": -12.5}],
        "damSppData": [
            {"interval": 1777086000000, "hbHubAvg": 20},
            {"interval": 1777093200000, "hbHubAvg": 21.5},
            {"hourEnding": 24, "hbHubAvg": 22},
        ],
    }

    prices = list(price_ercot.settlement(json.dumps(document).encode(), "hbHubAvg", NOW))

    assert [price.value for price in prices] == [Decimal("-12.5"), Decimal("21.5")]
    assert prices[0].end - prices[0].start == timedelta(minutes=15)


# EIA


def eia(rows, **more):
    said = [{"period": period, "respondent": "CISO", "fueltype": fuel, "value": value} for period, fuel, value in rows]
    return json.dumps({"response": {"total": len(said), "data": said, **more}}).encode()


def test_numbers_as_texts_are_numbers_and_an_hour_with_a_null_is_left_out():
    body = eia([("2024-01-01T01", "NG", "400"), ("2024-01-01T01", "SUN", "-5"), ("2024-01-01T02", "NG", None)])

    [mix] = carbon_eia930.fuel_mixes(body)["CISO"]

    assert mix.megawatts == {Fuel.GAS: 400, Fuel.SOLAR: -5}
    assert [m.start for m in carbon_eia930.fuel_mixes(small("eia_PGE_nulls.json"))["PGE"]] == [utc("2022-10-31T11:00")]


def test_a_period_is_the_end_of_its_hour_as_caisos_own_figures_show():
    pages = [recorded(f"eia/v2_rto_fuel-type-data_20230101_offset{offset}.json.gz") for offset in (0, 5000)]
    own = carbon_caiso.fuel_mix(recorded("caiso/outlook_history_20230101_fuelsource.csv"), date(2023, 1, 1), NOW)

    solar = {mix.start: mix.megawatts[Fuel.SOLAR] for mix in carbon_eia930.fuel_mixes(*pages)["CISO"]}

    def error(shift):
        hours = [own[n : n + 12] for n in range(0, 288, 12)]
        pairs = [(hour, solar.get(hour[0].start + shift)) for hour in hours]
        off = [abs(sum(m.megawatts[Fuel.SOLAR] for m in hour) / 12 - said) for hour, said in pairs if said is not None]
        return sum(off) / len(off)

    assert error(timedelta(0)) < 120
    assert min(error(timedelta(hours=-1)), error(timedelta(hours=1))) > 500


def test_two_pages_are_one_answer_and_the_hour_at_a_cut_is_left_out():
    pages = [recorded(f"eia/v2_rto_fuel-type-data_20230101_offset{offset}.json.gz") for offset in (0, 5000)]

    one, both = carbon_eia930.fuel_mixes(pages[0])["CISO"], carbon_eia930.fuel_mixes(*pages)["CISO"]

    assert len(both) == 25
    assert one == both[: len(one)]
    negative = [
        mix for mixes in carbon_eia930.fuel_mixes(*pages).values() for mix in mixes if min(mix.megawatts.values()) < 0
    ]
    assert len(negative) > 100


def test_a_collapsed_total_and_a_spike_are_refused_and_a_new_level_is_learned():
    def hours(*totals):
        return [
            Mix(start=NOW + n * timedelta(hours=1), end=NOW + (n + 1) * timedelta(hours=1), megawatts={Fuel.GAS: total})
            for n, total in enumerate(totals)
        ]

    assert [m.supply_mw for m in plausible(hours(*[100] * 8, 30, 100, 9999, 90))] == [100] * 9 + [90]
    assert len(plausible(hours(*[100] * 30, *[500] * 40))) == 30 + 40 - 24


def test_the_collapsed_hours_of_pjm_are_refused():
    rows = mix_file.parse(mix_file_text("PJM"), "PJM")
    mixes = [row.mix for row in rows if row.mix]

    kept = plausible(mixes)

    refused = len(mixes) - len(kept)
    assert 1 <= refused <= 20
    assert min(mix.supply_mw for mix in kept) > 40_000


def mix_file_text(authority):
    return recorded(f"../carbon/eia930_fuelmix_2022/{authority}_2022.csv.gz").decode()


def test_an_error_of_eia_is_told_and_an_unknown_fuel_refused():
    with pytest.raises(SignalUnreadable, match="API_KEY_INVALID"):
        carbon_eia930.fuel_mixes(b'{"error": {"code": "API_KEY_INVALID"}}')
    with pytest.raises(SignalUnreadable, match="XYZ"):
        carbon_eia930.fuel_mixes(eia([("2024-01-01T01", "XYZ", 1)]))


# ENTSO-E, ISO-NE, Electricity Maps


def test_a_curve_that_omits_what_repeats_is_filled_inside_its_period_only():
    prices = list(carbon_entsoe.prices(small("entsoe_A44_PT_gaps.xml"), "PT", NOW))

    assert len(prices) == 24
    assert [price.value for price in prices[4:7]] == [Decimal("137.26"), Decimal("137.26"), Decimal("134.11")]
    assert prices[-1].end == utc("2024-12-29T23:00")


def test_hours_and_quarter_hours_side_by_side_are_never_mixed():
    prices = list(carbon_entsoe.prices(recorded("entsoe/A44_day-ahead_price_DE-LU_20210101.xml.gz"), "DE", NOW))

    assert {price.end - price.start for price in prices} == {timedelta(minutes=15)}


def test_pumps_count_below_nought():
    france = carbon_entsoe.generation(recorded("entsoe/A75_generation_FR_20210101.xml.gz"))
    norway = carbon_entsoe.generation(recorded("entsoe/A75_generation_NO5_negatives.xml.gz"))

    assert min(mix.megawatts[Fuel.STORAGE] for mix in france) < 0
    assert all(30 < intensity(mix, factors.named("ipcc-2014-lifecycle").grams_per_kwh) < 80 for mix in france)
    assert min(value for mix in norway for value in mix.megawatts.values()) < 0


def test_no_matching_data_is_unavailable_and_a_document_with_definitions_is_refused():
    none = (
        b"<?xml version='1.0'?><Acknowledgement_MarketDocument xmlns='urn:x'><Reason><code>999</code>"
        b"<text>No matching data found</text></Reason></Acknowledgement_MarketDocument>"
    )
    bomb = b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'

    with pytest.raises(SignalUnavailable, match="No matching data"):
        carbon_entsoe.generation(none)
    with pytest.raises(SignalUnreadable, match="definitions"):
        carbon_entsoe.generation(bomb)


def test_irregular_stamps_of_two_offsets_are_ordered_by_their_instant():
    found = carbon_isone.fuel_mix(recorded("isone/genfuelmix_20241103_DST.json.gz"))

    assert all(before.end <= after.start for before, after in pairwise(found))
    assert (found[0].start, found[-1].end) == (utc("2024-11-03T04:08:35"), utc("2024-11-04T04:58:37"))


def emaps(**other):
    row = {
        "zone": "DE",
        "carbonIntensity": 302,
        "datetime": "2026-04-25T18:00:00.000Z",
        "updatedAt": "2026-04-25T18:07:01.000Z",
        "emissionFactorType": "lifecycle",
        "isEstimated": True,
    }
    return json.dumps({"zone": "DE", "history": [row | other]}).encode()


def test_an_estimate_of_electricity_maps_says_so():
    [reading] = carbon_electricitymaps.history(emaps(), "DE", Scope.LIFECYCLE, NOW)

    assert (reading.value, reading.is_estimated, reading.quality) == (302, True, "provisional")
    assert len(carbon_electricitymaps.history(emaps(carbonIntensity=None), "DE", Scope.LIFECYCLE, NOW)) == 0


@pytest.mark.parametrize("other", [{"zone": "FR"}, {"emissionFactorType": "direct"}])
def test_an_answer_about_something_else_is_refused(other):
    with pytest.raises(SignalUnreadable, match="asked for"):
        carbon_electricitymaps.history(emaps(**other), "DE", Scope.LIFECYCLE, NOW)


def test_a_forecast_of_electricity_maps_is_one():
    rows = [{"carbonIntensity": 100, "datetime": "2026-04-25T18:00:00.000Z"}]

    [reading] = carbon_electricitymaps.forecast(
        json.dumps({"zone": "DE", "forecast": rows}).encode(), "DE", "direct", NOW
    )

    assert reading.quality == "forecast"


def britain(*rows):
    data = [
        {"from": start, "to": end, "intensity": {"forecast": forecast, "actual": actual, "index": "low"}}
        for start, end, forecast, actual in rows
    ]
    return json.dumps({"data": data}).encode()


def test_britains_half_hours_are_past_where_they_have_an_actual_and_ahead_where_forecast():
    body = britain(
        ("2024-01-15T00:00Z", "2024-01-15T00:30Z", 245, 239), ("2024-01-15T00:30Z", "2024-01-15T01:00Z", 250, None)
    )

    [over] = carbon_gb.past(body, NOW)
    coming = list(carbon_gb.ahead(body, NOW))

    assert (over.value, over.quality, over.is_estimated, over.start) == (239, "provisional", True, utc("2024-01-15"))
    assert [(r.value, r.quality) for r in coming] == [(245, "forecast"), (250, "forecast")]


def test_an_error_of_britains_is_told_and_an_hour_is_no_half_hour():
    with pytest.raises(SignalUnreadable, match="400 Bad Request"):
        carbon_gb.past(b'{"error": {"code": "400 Bad Request", "message": "Please enter a valid date"}}', NOW)
    source = carbon_gb.CarbonIntensityGb(
        lambda ask, parse: parse(a_body(britain(("2024-01-15T00:00Z", "2024-01-15T01:00Z", 1, 1))))
    )
    with pytest.raises(SignalUnreadable, match="no half hour"):
        source.average("GB", NOW)


# Any source

PARSERS = {
    "caiso demand": lambda body: carbon_caiso.demands(body, date(2026, 5, 1), NOW),
    "caiso co2": lambda body: carbon_caiso.emissions(body, date(2026, 5, 1), NOW),
    "caiso mix": lambda body: carbon_caiso.fuel_mix(body, date(2026, 5, 1), NOW),
    "caiso 7 days": carbon_caiso.seven_days,
    "oasis": forecast_caiso_oasis.renewables,
    "lmp": lambda body: price_caiso_lmp.lmp(body, price_caiso_lmp.HUB, NOW),
    "ercot mix": carbon_ercot.fuel_mix,
    "ercot list": lambda body: forecast_ercot.documents(body, "12311"),
    "ercot wind": forecast_ercot.wind_forecast,
    "ercot prices": lambda body: price_ercot.settlement(body, "hbHubAvg", NOW),
    "eia": carbon_eia930.fuel_mixes,
    "entsoe": carbon_entsoe.generation,
    "britain": lambda body: carbon_gb.past(body, NOW),
    "isone": carbon_isone.fuel_mix,
    "electricity maps": lambda body: carbon_electricitymaps.history(body, "DE", Scope.DIRECT, NOW),
}


@pytest.mark.parametrize("parse", PARSERS.values(), ids=PARSERS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   \n",
        b"<!DOCTYPE html><html><head><title>Access Denied</title></head></html>",
        b"\xff\xfe\x00",
        b"PK\x03",
    ],
)
def test_a_page_an_empty_body_and_half_a_file_are_refused_by_every_parser(parse, body):
    with pytest.raises(SignalError):
        parse(body)


def test_a_page_instead_of_data_is_named_by_its_title():
    with pytest.raises(SignalUnreadable, match="Access Denied"):
        carbon_caiso.seven_days(b"<!DOCTYPE html><html><head><title>Access Denied</title></head></html>")


@pytest.mark.parametrize(
    ("parse", "body"),
    [
        (carbon_entsoe.prices, "entsoe_A44_PT_gaps.xml"),
        (lambda body, *_: carbon_ercot.fuel_mix(body), "ercot_fuel-mix_2025_hour.json"),
        (lambda body, *_: forecast_ercot.solar_forecast(body), "ercot_13483_solar.zip"),
        (lambda body, *_: carbon_caiso.demands(body, date(2019, 11, 3), NOW), "caiso_netdemand_20191103.csv"),
    ],
    ids=["xml", "json", "zip", "csv"],
)
def test_half_a_file_is_refused_whole(parse, body):
    whole = small(body)

    with pytest.raises(SignalUnreadable):
        parse(whole[: len(whole) // 2 + 3], "PT", NOW)


def a_body(content):
    from broker.signals.cache import Body  # noqa: PLC0415

    return Body(content=content, fetched_at=NOW)
