from ipaddress import IPv4Address
from itertools import pairwise

import pytest
from factories import a_shape

from broker.slurm.conf import SlurmSite, check, fragment, gres_lines, hosts_block
from broker.slurm.directives import read
from broker.slurm.wants import Need


def a_site(**changes):
    shapes = changes.pop(
        "shapes",
        (
            a_shape(name="h100", partition="cloud", accelerator="H100", accelerator_count=8, memory_gib=200, nodes=4),
            a_shape(name="cpu", partition="burst", accelerator=None, accelerator_count=0, nodes=300),
        ),
    )
    names = [f"{shape.name}-{number}" for shape in shapes for number in range(1, shape.nodes + 1)]
    values = {
        "shapes": shapes,
        "addresses": {name: str(IPv4Address("10.77.0.2") + i) for i, name in enumerate(names)},
        "hub": "10.77.0.1",
        "resume_timeout_s": 1500,
        "suspend_timeout_s": 60,
        "suspend_time_s": 300,
        "slurm_version": "22.05.8",
    }
    return SlurmSite(**{**values, **changes})


FRESH = "ClusterName=x\nSlurmctldHost=ctl\nSelectType=select/cons_tres\n"


def test_the_fragment_is_all_that_a_fresh_site_needs():
    assert check(FRESH + fragment(a_site(), FRESH), a_site()) == []


def test_every_line_says_how_much_it_is_needed_and_why():
    lines = fragment(a_site()).splitlines()
    for before, line in pairwise(lines):
        if line and not line.startswith("#"):
            assert before.startswith(("# required", "# advised")), line


def test_a_name_keeps_its_address_across_the_octets():
    nodes = {record.name: record.fields for record in read(fragment(a_site())).nodes}
    assert nodes["h100-[1-4]"]["nodeaddr"] == "10.77.0.[2-5]"
    assert nodes["cpu-[1-300]"]["nodeaddr"] == "10.77.0.[6-255],10.77.1.[0-49]"


def test_memory_is_asked_for_with_room_for_what_the_machine_keeps():
    nodes = {record.name: record.fields for record in read(fragment(a_site())).nodes}
    assert int(nodes["h100-[1-4]"]["realmemory"]) == 200 * 1024 * 95 // 100
    assert nodes["h100-[1-4]"]["gres"] == "gpu:h100:8"
    assert "gres" not in nodes["cpu-[1-300]"]


def test_the_sites_own_value_wins_where_it_suffices():
    text = fragment(a_site(), FRESH + "ResumeTimeout=3600\nMessageTimeout=100\n")
    assert "\n# ResumeTimeout=3600\n" in text
    assert read(text).value("ResumeTimeout") is None
    assert read(text).value("MessageTimeout") is None


def test_a_value_that_does_not_suffice_is_mended_as_a_comment_since_slurm_takes_each_parameter_once():
    text = fragment(a_site(), FRESH + "SlurmctldParameters=enable_configless,power_save_interval=5\nResumeTimeout=60\n")
    assert "# SlurmctldParameters=enable_configless,power_save_interval=5,idle_on_node_suspend\n" in text
    assert "# ResumeTimeout=1500\n" in text
    assert read(text).value("SlurmctldParameters") is None


def test_a_prolog_of_the_sites_own_stays_and_calls_ours():
    text = fragment(a_site(), FRESH + "PrologSlurmctld=/etc/slurm/mine.sh\n")
    assert "# exec /etc/slurm/broker/prolog_slurmctld.sh\n" in text
    own = {"/etc/slurm/mine.sh": "#!/bin/sh\nexec /etc/slurm/broker/prolog_slurmctld.sh\n"}
    assert "yours suffices" in fragment(a_site(), FRESH + "PrologSlurmctld=/etc/slurm/mine.sh\n", own)


@pytest.mark.parametrize(
    ("version", "parameter", "there"),
    [
        ("22.05.8", "PrivateData", True),
        ("23.02.1", "PrivateData", False),
        ("23.02.1", "TreeWidth", True),
        ("24.11.5", "TreeWidth", False),
    ],
)
def test_what_newer_releases_do_by_themselves_is_left_out(version, parameter, there):
    assert (read(fragment(a_site(slurm_version=version))).value(parameter) is not None) is there


def test_gres_conf_names_the_devices_of_each_shape_with_gpus():
    assert gres_lines(a_site()) == "NodeName=h100-[1-4] AutoDetect=off Name=gpu Type=h100 File=/dev/nvidia[0-7]\n"
    one = a_site(shapes=(a_shape(name="a", accelerator="RTX A6000", accelerator_count=1, nodes=1),))
    assert gres_lines(one) == "NodeName=a-1 AutoDetect=off Name=gpu Type=rtx_a6000 File=/dev/nvidia0\n"


def test_the_hosts_block_is_marked_and_has_every_name():
    lines = hosts_block(a_site()).splitlines()
    assert (lines[0], lines[1], lines[-1]) == ("# broker: begin", "10.77.0.2 h100-1", "# broker: end")
    assert len(lines) == 306


GOOD = FRESH + fragment(a_site())


def findings(text, need=None, **scripts):
    return [finding for finding in check(text, a_site(), scripts) if need in {None, finding.severity}]


@pytest.mark.parametrize(
    ("old", "new", "says", "mend"),
    [
        ("ResumeProgram=/etc/slurm/broker/resume\n", "", "ResumeProgram is not set", "ResumeProgram=/etc"),
        ("ResumeProgram=/etc/slurm/broker/", "ResumeProgram=", "no absolute path", "ResumeProgram=/etc"),
        ("SuspendProgram=/etc/slurm/broker/suspend", "SuspendProgram=/site/off", "Slurm knows only one", '"$1"'),
        ("ResumeTimeout=1500\n", "ResumeTimeout=60\n", "srun", "ResumeTimeout=1500"),
        ("ResumeRate=0", "ResumeRate=300", "ResumeRate=300 does not suffice", "ResumeRate=0"),
        ("select/cons_tres", "select/linear", "cannot share out GPUs", "select/cons_tres"),
        ("SelectType=select/cons_tres\n", "", "SelectType is not set", "select/cons_tres"),
        ("enable_configless,", "", "nodes fetch", "idle_on_node_suspend,enable_configless"),
        ("ClusterName=x", "Prolog=/etc/slurm/prolog.sh", "fail and drain", "take it out"),
        ("JobSubmitPlugins=lua", "JobSubmitPlugins=throttle", "JobSubmitPlugins", "JobSubmitPlugins=throttle,lua"),
        ("PrologSlurmctld=/etc/slurm/broker/", "PrologSlurmctld=/site/", "Slurm knows only one", "last line be: exec"),
        ("ClusterName=x", "PrologEpilogTimeout=60", "ends the wait", "PrologEpilogTimeout=1500"),
        ("GresTypes=gpu", "GresTypes=mps", "no GPUs", "GresTypes=mps,gpu"),
        ("NodeName=h100-[1-4]", "NodeName=h100-[1-3]", "h100-4: no NodeName line declares it", "NodeName=h100-[1-4]"),
        ("10.77.0.[2-5]", "10.77.0.[3-6]", "NodeAddr is not the overlay's", "10.77.0.[2-5]"),
        ("Gres=gpu:h100:8 State=CLOUD", "Gres=gpu:h100:8", "not CLOUD", "State=CLOUD"),
        ("PartitionName=cloud", "PartitionName=clouds", "partition cloud is not declared", "PartitionName=cloud"),
        ("ExclusiveUser=YES", "ExclusiveUser=NO", "one user at a time", "ExclusiveUser=YES"),
        (" SuspendTime=300", "", "power saving is off", "SuspendTime=300"),
        ("SlurmctldHost=ctl", "SlurmctldHost=ctl(192.168.1.1)", "by the overlay only", "SlurmctldHost=ctl"),
        ("ClusterName=x", "SuspendExcParts=cloud", "never be given back", "take cloud out"),
    ],
)
def test_what_would_break_elastic_partitions_is_required(old, new, says, mend):
    assert old in GOOD
    found = findings(GOOD.replace(old, new), Need.REQUIRED)
    assert any(says in finding.message and mend in finding.mend for finding in found), found


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("TopologyPlugin=topology/tree", "topology.conf"),
        ("SuspendTime=600", "your own nodes"),
        ("TaskProlog=/etc/slurm/task.sh", "no such file"),
        ("JobRequeue=0", "lost"),
        ("SuspendExcNodes=h100-[2-3]", "h100-[2-3]"),
        ("TCPTimeout=2", "TCPTimeout is set 2 times"),
        ("SlurmctldParameters=enable_configless,idle_on_node_suspend,cloud_dns", "has cloud_dns"),
    ],
)
def test_what_only_hurts_is_advised_with_its_line(line, says):
    found = findings(GOOD + line + "\n", Need.ADVISED)
    assert [finding.line for finding in found if says in finding.message] == [GOOD.count("\n") + 1]


def test_programs_that_call_ours_are_ours():
    text = GOOD.replace("PrologSlurmctld=/etc/slurm/broker/prolog_slurmctld.sh", "PrologSlurmctld=/site/p")
    calls = {"/site/p": "#!/bin/sh\nexec /etc/slurm/broker/prolog_slurmctld.sh"}
    assert check(text, a_site(), calls) == []
    assert "does not call ours" in check(text, a_site(), {"/site/p": "exit 0"})[0].message


def test_a_job_submit_lua_that_does_not_call_the_broker_is_found():
    found = check(GOOD, a_site(), {"job_submit.lua": "function slurm_job_submit() end"})
    assert "does not call broker.lua" in found[0].message
    assert check(GOOD, a_site(), {"job_submit.lua": 'dofile("/etc/slurm/broker/broker.lua")'}) == []


def test_comments_continuations_capitals_and_defaults_are_read_as_slurm_reads_them():
    conf = read(
        "resumetimeout=5 # not 6\nSchedulerParameters=a,\\\nb\n#X=1\nNodeName=DEFAULT State=CLOUD\nNodeName=n1 CPUs=2\n"
    )
    assert conf.value("ResumeTimeout").text == "5"
    assert (conf.value("SchedulerParameters").text, conf.value("SchedulerParameters").line) == ("a,b", 2)
    assert conf.value("X") is None
    assert (conf.nodes[0].name, conf.nodes[0].fields["state"], conf.nodes[0].line) == ("n1", "CLOUD", 6)
