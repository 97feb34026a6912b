import threading

from factories import Clock

from broker.core.errors import SlurmUnavailable
from broker.reconcile.driver import Activity, Driver, Task


def run(*activities, until, seconds=5):
    driver = Driver(activities, Clock(), workers=4)
    driver.start()
    try:
        assert until.wait(seconds), "the activity never got there"
    finally:
        driver.stop()
    return driver


def test_a_nudge_wakes_an_activity_long_before_its_timer():
    seen, again = [], threading.Event()

    def find():
        seen.append(1)
        if len(seen) == 2:
            again.set()
        return []

    driver = Driver([Activity(name="a", interval_seconds=3600, find=find)], Clock(), workers=1)
    driver.start()
    driver.nudge()
    assert again.wait(5)
    driver.stop()


def test_one_key_is_worked_on_by_one_worker_at_a_time():
    under_way, most, passes, enough = [0], [0], [0], threading.Event()
    lock = threading.Lock()

    def work():
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        threading.Event().wait(0.01)
        with lock:
            under_way[0] -= 1

    def find():
        passes[0] += 1
        if passes[0] > 20:
            enough.set()
        return [Task(key="lease:l1", run=work)]

    run(Activity(name="a", interval_seconds=0.001, find=find), until=enough)
    assert most[0] == 1


def test_one_activity_in_trouble_stops_no_other_and_says_so():
    good = threading.Event()
    passes = [0]

    def bad():
        raise SlurmUnavailable("slurmctld did not answer")

    def find():
        passes[0] += 1
        if passes[0] > 5:
            good.set()
        return [Task(key="x", run=lambda: 1 / 0)]

    driver = run(
        Activity(name="bad", interval_seconds=0.001, find=bad),
        Activity(name="good", interval_seconds=0.001, find=find),
        until=good,
    )
    assert driver.health()["bad"] == (None, "slurmctld did not answer")
    assert driver.health()["good"][0] is not None
