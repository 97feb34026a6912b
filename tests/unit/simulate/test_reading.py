"""Traces and intensities from files: what is read, and what is said about lines that are none."""

import gzip
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from unit.simulate.conftest import FOUR_ZONES

from broker.simulate.intensity import read_intensity
from broker.simulate.read_jobs import kind_of, read_jobs
from broker.simulate.trace import Unreadable, reasons

SACCT = (
    "JobID|State|Submit|ElapsedRaw|TimelimitRaw|AllocTRES|Comment\n"
    "1|COMPLETED|2024-03-01T10:15:00|3600|120|billing=8,cpu=8,gres/gpu=2,gres/gpu:a100=2,node=1|\n"
    "1.batch|COMPLETED|2024-03-01T10:15:00|3600||cpu=8,gres/gpu=2,node=1|\n"
    "2_7|CANCELLED by 1000|2024-03-01T11:00:00|0|60||\n"
    "3|FAILED|2024-03-01T11:30:00|1800|UNLIMITED|cpu=4,gres/gpu=1,node=1|two\nlines\n"
    "4|RUNNING|2024-03-01T11:31:00|100|60|cpu=4,gres/gpu=1,node=1|\n"
    "5|COMPLETED|2024-03-01T11:32:00|60|60|cpu=4,node=1|\n"
    "6|COMPLETED|Unknown|60|60|cpu=4,gres/gpu=1,node=1|\n"
    "7|COMPLETED|2024-03-01T11:33:00|60|60|cpu=4,gres/gpu=1,node=1|a|bar\n"
)
SWF = (
    "; Version: 2.2\n; UnixStartTime: 749458803\n\n"
    "1 0 -1 1451 128 -1 -1 -1 3600 -1 1 1 1 1 1 -1 -1 -1\n"
    "2 7 -1 -1 128 -1 -1 -1 -1 -1 0 1 1 1 1 -1 -1 -1\n"
    "3 9 -1 60 -1 -1 -1 4 -1 -1 1 1 1 1 1 -1 -1 -1\n"
    "4 10 -1\n"
    "5 x -1 60 -1 -1 -1 4 -1 -1 1 1 1 1 1 -1 -1 -1\n"
)


@pytest.fixture
def file(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


def test_a_gaia_csv_in_seconds_and_in_hours_is_the_same_trace(file):
    seconds = file("s.csv", "arrival_time,length,cpus\n0.0,91469.0,1\n2077.0,600.0,3\n")
    hours = file("h.csv.gz", f"cpus,arrival_time,length\n1,0.0,{91469 / 3600}\n3,{2077 / 3600},{600 / 3600}\n")

    found = [read_jobs(seconds), read_jobs(hours, time_unit="hours")]

    assert [[(job.submitted_s, job.length_s, job.devices) for job in trace.jobs] for trace in found] == [
        [(0.0, 91469.0, 1), (2077.0, 600.0, 3)]
    ] * 2


def test_lines_of_a_gaia_csv_that_are_no_jobs_are_named(file):
    path = file(
        "bad.csv", "arrival_time,length,cpus\n0,600,1\nx,600,1\n1,0,1\n-1,5,1\n2,nan,1\n3,600,1.5\n4,600\n\n9,600,2\n"
    )

    trace = read_jobs(path)

    assert [job.devices for job in trace.jobs] == [1, 2]
    assert [(line.number, line.reason) for line in trace.bad_lines] == [
        (3, "not three numbers"),
        (4, "length is not above 0"),
        (5, "arrival_time is not a time after the start"),
        (6, "length is not above 0"),
        (7, "cpus is not a whole number above 0"),
        (8, "not three numbers"),
    ]


def test_swf_lines_become_jobs_or_are_named(file):
    trace = read_jobs(file("log.swf", SWF))

    assert [(job.id, job.devices, job.length_s, job.limit_s) for job in trace.jobs] == [
        ("1", 128, 1451.0, 3600.0),
        ("3", 4, 60.0, None),
    ]
    assert [(line.number, line.reason) for line in trace.bad_lines] == [
        (5, "it did not run"),
        (7, "fewer than 18 fields"),
        (8, "a field is not a number"),
    ]
    assert trace.origin == datetime(1993, 10, 1, 7, 0, 3, tzinfo=UTC)


def test_an_export_of_sacct_becomes_the_jobs_that_ended_with_gpus(file):
    trace = read_jobs(file("export.psv", SACCT), zone=ZoneInfo("Europe/Berlin"))

    assert [(job.id, job.devices, job.length_s, job.limit_s) for job in trace.jobs] == [
        ("1", 2, 3600.0, 7200.0),
        ("3", 1, 1800.0, None),
        ("7", 1, 60.0, 3600.0),
    ]
    # 10:15 in Berlin is 9:15 UTC; a trace begins on the hour.
    assert trace.origin == datetime(2024, 3, 1, 9, tzinfo=UTC)
    assert [job.submitted_s for job in trace.jobs] == [900.0, 5400.0, 5580.0]
    assert dict(reasons(trace.bad_lines)) == {
        "it did not run": 1,
        "it has not ended": 1,
        "no GPU": 1,
        "no submit time": 1,
        "not 7 fields": 1,
    }


def test_counting_processors_keeps_the_jobs_without_gpus(file):
    trace = read_jobs(file("export.psv", SACCT), count="cpus")

    assert [(job.id, job.devices) for job in trace.jobs] == [("1", 8), ("3", 4), ("5", 4), ("7", 4)]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "", "its first line is none of"),
        ("a.csv", "hello,world\n", "its first line is none of"),
        ("a.csv", "arrival_time,length\n1,2\n", "line 1 has no column cpus"),
        ("a.csv", "arrival_time,length,cpus\nx,y,z\n", r"no line is a job: not three numbers \(1 lines\)"),
        ("a.psv", "JobID|State\n1|COMPLETED\n", "line 1 has no column Submit, ElapsedRaw, AllocTRES"),
        ("a.swf", "; only words\n", "no line is a job, the file is empty"),
    ],
)
def test_a_file_that_is_no_trace_is_refused_with_what_was_expected(file, name, text, says):
    with pytest.raises(Unreadable, match=says):
        read_jobs(file(name, text))


def test_a_gzip_file_that_is_cut_off_is_refused(tmp_path):
    path = tmp_path / "cut.csv.gz"
    whole = gzip.compress(b"arrival_time,length,cpus\n" + b"".join(b"%d,600,1\n" % n for n in range(5000)))
    path.write_bytes(whole[: len(whole) // 2])

    with pytest.raises(Unreadable, match=r"cut\.csv\.gz"):
        read_jobs(path)


EXPORT = (
    "Datetime (UTC),Country,Zone Name,Zone Id,Carbon Intensity gCO₂eq/kWh (direct),"
    "Carbon Intensity gCO₂eq/kWh (LCA),Data Source\n"
)


def hours(zone, *values, first=0):
    return "".join(
        f"2022-01-01 {first + at:02}:00:00,X,X,{zone},{value},{value}9,s\n" for at, value in enumerate(values)
    )


def test_an_export_of_one_zone_is_read_by_its_scope(file):
    path = file("GB.csv.gz", EXPORT + hours("GB", 10, 20))

    assert read_intensity([path], None, "direct").g_per_kwh == (10.0, 20.0)
    assert read_intensity([path], "GB").g_per_kwh == (109.0, 209.0)


def test_files_of_one_zone_follow_one_another_and_a_lost_hour_takes_the_one_before(file):
    later = file("b.csv", EXPORT + hours("GB", 5, "", 7, first=4))
    earlier = file("a.csv", EXPORT + hours("GB", 1, 2, 3))

    found = read_intensity([later, earlier], "GB", "direct")

    assert found.g_per_kwh == (1.0, 2.0, 3.0, 3.0, 5.0, 5.0, 7.0)
    assert found.filled == 2
    assert [(line.number, line.reason) for line in found.bad_lines] == [(3, "no number")]
    assert found.start == datetime(2022, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "zone", "says"),
    [
        (EXPORT + hours("GB", 1), "DE", "no intensity of zone DE; the files speak of GB"),
        (EXPORT + hours("GB", 1) + hours("FR", 1), None, r"several zones \(FR, GB\)"),
        (EXPORT + hours("GB", 1) + "2022-03-01 00:00:00,X,X,GB,1,1,s\n", "GB", "nothing for more than 24 hours"),
        (EXPORT + hours("GB", 1) + "2022-01-01 00:30:00,X,X,GB,1,1,s\n", "GB", "not hourly"),
        ("a,b\n1,2\n", None, "line 1 is neither"),
    ],
)
def test_intensities_that_do_not_join_are_refused(file, text, zone, says):
    with pytest.raises(Unreadable, match=says):
        read_intensity([file("x.csv", text)], zone)


def test_a_zone_that_a_table_lacks_is_refused_with_the_near_ones():
    with pytest.raises(Unreadable, match="no zone US-CAISO among its 4; near it: US-CAL-CISO"):
        read_intensity([FOUR_ZONES], "US-CAISO")


def test_an_hour_that_the_file_lacks_is_refused():
    with pytest.raises(Unreadable, match="hour 720 of zone DE is asked for; the file has the hours 0 to 719"):
        read_intensity([FOUR_ZONES], "DE").from_hour(720)


def test_real_traces_are_recognised_and_read(shared):
    expected = {
        "jobs/gaia/azure-100k.csv.gz": ("gaia", 99988),
        "jobs/swf/NASA-iPSC-1993-3.1-cln.swf.gz": ("swf", 18066),
        "jobs/swf/HPC2N-2002-slice.swf.gz": ("swf", 3145),
        "jobs/slurm/sacct_samples/sacct_simple.log": ("sacct", 4),
        "sacct/rig-22.05/all-noduplicates.psv": ("sacct", 26),
    }

    found = {
        name: (kind_of(shared / name), len(read_jobs(shared / name, time_unit="hours", count="cpus").jobs))
        for name in expected
    }

    assert found == expected
