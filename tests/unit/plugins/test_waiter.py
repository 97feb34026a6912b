"""PrologSlurmctld's waiter, started as slurmctld starts it."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

WAITER = Path(__file__).parents[3] / "slurm_plugins" / "prolog_slurmctld.sh"


@pytest.fixture
def spool(tmp_path):
    (tmp_path / "jobs").mkdir()
    text = WAITER.read_text()
    for old, new in {
        "SPOOL=/var/spool/broker": f"SPOOL={tmp_path}",
        "PARTITIONS=''": "PARTITIONS='h100 a10'",
        "LIMIT=1800": "LIMIT=${TEST_LIMIT:-30}",
        "PAUSE=30": "PAUSE=0.2",
    }.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    (tmp_path / "waiter").write_text(text)
    (tmp_path / "waiter").chmod(0o755)
    return tmp_path


@pytest.fixture
def start(spool):
    """Starts a waiter in a process group of its own; none outlives the test."""
    running = []

    def start(job="7", partition="h100", **more):
        environment = {
            "SLURM_JOB_ID": job,
            "SLURM_JOB_PARTITION": partition,
            "SLURM_JOB_USER": "alice",
            "SLURM_JOB_UID": "1001",
            "SLURM_JOB_NODELIST": "h100-[1-2]",
            **more,
        }
        waiter = subprocess.Popen(
            [spool / "waiter"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        running.append(waiter)
        return waiter

    yield start
    for waiter in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(waiter.pid, signal.SIGKILL)
        waiter.wait()
        waiter.stderr.close()


def wait_for_file(spool, name="7.job"):
    end = time.monotonic() + 10
    while not (spool / "jobs" / name).exists():
        assert time.monotonic() < end, f"no {name}"
        time.sleep(0.005)


def answer(spool, word, job="7"):
    """As the daemon does it: without waiting."""
    fifo = os.open(spool / "jobs" / f"{job}.fifo", os.O_WRONLY | os.O_NONBLOCK)
    os.write(fifo, word)
    os.close(fifo)


def left(spool):
    return sorted(path.name for path in (spool / "jobs").iterdir())


@pytest.mark.parametrize("partition", ["cpu", "h10", "h100,a10", "*", ""])
def test_jobs_of_other_partitions_pass_at_once(spool, start, partition):
    assert start(partition=partition).wait(timeout=10) == 0
    assert left(spool) == []


def test_a_job_starts_at_the_word(spool, start):
    waiter = start()
    wait_for_file(spool)
    answer(spool, b"start\n")
    assert waiter.wait(timeout=10) == 0
    assert left(spool) == []


def test_whoever_sees_the_job_file_finds_a_reader(spool, start):
    for number in range(10):
        waiter = start(job=str(number))
        wait_for_file(spool, f"{number}.job")
        answer(spool, b"start\n", str(number))
        assert waiter.wait(timeout=10) == 0


def test_it_says_who_waits_for_what(spool, start):
    start()
    wait_for_file(spool)
    text = (spool / "jobs/7.job").read_text()
    assert text == "job=7\nuser=alice\nuid=1001\nnodes=h100-[1-2]\npartition=h100\n"


def test_it_knocks_where_somebody_listens(spool, start):
    os.mkfifo(spool / "knock")
    listener = os.open(spool / "knock", os.O_RDONLY | os.O_NONBLOCK)
    try:
        waiter = start()
        wait_for_file(spool)
        answer(spool, b"start\n")
        waiter.wait(timeout=10)
        assert os.read(listener, 10) == b"k"
    finally:
        os.close(listener)


def test_any_other_word_fails_the_prolog_so_that_slurm_requeues(spool, start):
    waiter = start()
    wait_for_file(spool)
    answer(spool, b"stop\n")
    assert waiter.wait(timeout=10) == 1
    assert "requeues" in waiter.stderr.read()
    assert left(spool) == []


def test_a_spool_that_is_missing_fails_the_prolog_after_a_pause(spool, start):
    (spool / "jobs").rmdir()
    waiter = start()
    began = time.monotonic()
    assert waiter.wait(timeout=10) == 1
    assert time.monotonic() - began >= 0.2
    assert "7.fifo cannot be made" in waiter.stderr.read()


def test_it_ends_by_itself(spool, start):
    assert start(TEST_LIMIT="0.3").wait(timeout=10) != 0
    assert left(spool) == []


def test_on_the_way_out_by_a_signal_it_takes_its_files_along(spool, start):
    waiter = start()
    wait_for_file(spool)
    os.killpg(waiter.pid, signal.SIGTERM)
    assert waiter.wait(timeout=10) != 0
    assert left(spool) == []


def test_killed_outright_it_leaves_a_fifo_without_a_reader_and_the_next_one_starts_afresh(spool, start):
    waiter = start()
    wait_for_file(spool)
    os.killpg(waiter.pid, signal.SIGKILL)
    waiter.wait(timeout=10)
    end = time.monotonic() + 10
    with pytest.raises(OSError, match="No such device or address"):
        while time.monotonic() < end:  # the kill reaches the leader first; its children hold the FIFO a moment longer
            answer(spool, b"start\n")
            time.sleep(0.005)
    (spool / "jobs/7.job").write_text("stale")
    again = start()
    end = time.monotonic() + 10
    while not (spool / "jobs/7.job").exists() or (spool / "jobs/7.job").read_text() == "stale":
        assert time.monotonic() < end
        time.sleep(0.005)
    answer(spool, b"start\n")
    assert again.wait(timeout=10) == 0


def test_an_old_waiter_leaves_the_files_of_a_new_one_alone(spool, start):
    old = start()
    wait_for_file(spool)
    (spool / "jobs/7.job").unlink()
    new = start()
    wait_for_file(spool)
    os.killpg(old.pid, signal.SIGTERM)
    old.wait(timeout=10)
    assert left(spool) == ["7.fifo", "7.job"]
    answer(spool, b"start\n")
    assert new.wait(timeout=10) == 0


@pytest.mark.parametrize("job", ["../7", "7;8", ""])
def test_a_job_id_that_is_no_number_never_becomes_a_file_name(spool, start, job):
    waiter = start(job=job)
    assert waiter.wait(timeout=10) == 1
    assert "not a number" in waiter.stderr.read()
    assert left(spool) == []


def test_two_processes_wait_for_a_job_not_more(spool, start):
    waiter = start()
    wait_for_file(spool)
    end = time.monotonic() + 10
    while (size := _group(waiter.pid)) > 2:  # dd, which knocks, is on its way out
        assert time.monotonic() < end, size
        time.sleep(0.005)
    assert size == 2


def _group(leader):
    members = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            members += int(path.read_text().rpartition(")")[2].split()[2]) == leader
    return members


def test_a_waiter_whose_job_was_requeued_ends_and_never_lets_it_start(spool, start):
    waiter = start()
    wait_for_file(spool)
    answer(spool, b"gone\n")
    assert waiter.wait(10) == 1
    assert left(spool) == []


def test_the_user_of_srun_is_told_before_it_is_cancelled(spool, start):
    text = (spool / "waiter").read_text()
    assert text.count("PATH=/usr/sbin:") == 1
    (spool / "waiter").write_text(text.replace("PATH=/usr/sbin:", f"PATH={spool}/bin:/usr/sbin:"))
    (spool / "bin").mkdir()
    for name in ("scontrol", "scancel"):
        (spool / "bin" / name).write_text(f'#!/bin/sh\nprintf "%s|" {name} "$SLURM_CONF" "$@" >>{spool}/said\n')
        (spool / "bin" / name).chmod(0o755)
    waiter = start()
    wait_for_file(spool)
    answer(spool, b"end broker: nothing; $(touch hacked) `touch hacked`\n")
    assert waiter.wait(10) == 1
    assert (spool / "said").read_text() == (
        "scontrol|/etc/slurm/slurm.conf|notify|7|broker: nothing; $(touch hacked) `touch hacked`|"
        "scancel|/etc/slurm/slurm.conf|7|"
    )
